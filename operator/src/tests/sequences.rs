//! RS-136: whatever happens in whatever order, and however often the operator dies over it, what is stored in the end
//! is what an operator that was never disturbed has stored.

use artifactapi_crds::manifests::ObjectRef;
use serde_json::{Value, json};

use super::bench::{Bench, local, remote, robot, secret, virt};
use crate::{
    ceilings::Ceilings,
    names::GRACE,
    sink::{Records, Sink as _, StoredRow, memory::Crash},
};

/// Sequences by default; `ARTIFACTAPI_SEQUENCES` says otherwise.
const SEQUENCES: u64 = 100;
/// Events in each.
const EVENTS: u64 = 10;

fn sequences() -> u64 {
    std::env::var("ARTIFACTAPI_SEQUENCES").ok().and_then(|text| text.parse().ok()).unwrap_or(SEQUENCES)
}

/// Numbers that only look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// What happens in the cluster.
#[derive(Clone, Debug)]
enum Happening {
    Apply(Value),
    Delete(ObjectRef),
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];
const NAMESPACES: [&str; 2] = ["a", "b"];

fn some_remote(dice: &mut Dice) -> Value {
    let (namespace, name) = (dice.of(&NAMESPACES), dice.of(&NAMES));
    let mirrors =
        json!({ "type": "docker", "docker": { "mirrorFor": [dice.of(&["docker.io", "quay.io"])] } });
    let spec = match dice.roll(8) {
        0 => json!({ "baseURL": "ftp://nowhere/" }),
        1 => json!({ "auth": { "secretRef": { "name": dice.of(&["s", "t"]) } } }),
        2 => mirrors,
        3 => json!({ "suspend": true }),
        4 => json!({ "type": "pypi" }),
        5 => json!({ "deletionPolicy": "Purge" }),
        _ => json!({ "baseURL": format!("https://{}.test/", dice.roll(3)) }),
    };
    remote(namespace, name, spec)
}

fn happening(dice: &mut Dice) -> Happening {
    let (namespace, name) = (dice.of(&NAMESPACES), dice.of(&NAMES));
    let object = |kind| ObjectRef { kind, namespace: namespace.into(), name: name.into() };
    match dice.roll(12) {
        0..=4 => Happening::Apply(some_remote(dice)),
        5 => Happening::Apply(local(namespace, name, dice.of(&["Retain", "Purge"]))),
        6 => {
            let mut manifest = virt(namespace, name, &[dice.of(&NAMES)]);
            manifest["spec"]["resolution"] = json!(dice.of(&["firstMatch", "union"]));
            Happening::Apply(manifest)
        }
        7 => Happening::Apply(robot(namespace, name)),
        8 => {
            let key = dice.of(&["token", "nonsense"]);
            let value = dice.roll(3).to_string();
            Happening::Apply(secret(namespace, dice.of(&["s", "t"]), &[(key, &value)]))
        }
        9 => {
            let name = dice.of(&["s", "t"]).to_owned();
            Happening::Delete(ObjectRef { name, ..object("Secret") })
        }
        _ => {
            let kind = dice.of(&["Remote", "Remote", "Local", "Virtual", "Robot"]);
            Happening::Delete(object(crate::seen::known_kind(kind).unwrap()))
        }
    }
}

fn happen(bench: &mut Bench, happening: &Happening) {
    match happening {
        // An API server refuses another type.
        Happening::Apply(manifest) if bench.has_other_type(manifest) => {}
        Happening::Apply(manifest) => drop(bench.apply(manifest)),
        Happening::Delete(object) => bench.delete(object),
    }
}

async fn stored(bench: &Bench) -> (Vec<StoredRow>, Option<Records>) {
    let contents = bench.sink.load().await.unwrap();
    (contents.rows, contents.records)
}

fn ceilings() -> Ceilings {
    Ceilings { mirror_for: vec!["*".into()], ..Ceilings::default() }
}

#[tokio::test(start_paused = true)]
async fn rs_136_an_operator_that_dies_all_the_time_stores_what_one_that_never_does() {
    for seed in 0..sequences() {
        let mut dice = Dice(seed);
        let happenings: Vec<Happening> = (0..EVENTS).map(|_| happening(&mut dice)).collect();
        let (mut calm, mut hunted) = (Bench::with(ceilings(), None), Bench::with(ceilings(), None));
        for one in &happenings {
            happen(&mut calm, one);
            calm.settle().await;
            calm.wait_for_purges().await;
            happen(&mut hunted, one);
            match dice.roll(4) {
                0 => hunted.sink.crash(Crash::BeforeWrite),
                1 => hunted.sink.crash(Crash::AfterWrite),
                // It dies before it has done anything.
                2 => {}
                _ => hunted.settle().await,
            }
            hunted.operator.work().await;
            hunted.restart().await;
            hunted.wait_for_purges().await;
            // Names that are kept for a while are free after it.
            tokio::time::advance(GRACE).await;
            for bench in [&mut calm, &mut hunted] {
                bench.settle().await;
                bench.wait_for_purges().await;
            }
        }
        let (one, other) = (stored(&hunted).await, stored(&calm).await);
        assert_eq!(one, other, "seed {seed}: {happenings:#?}");
        assert_eq!(hunted.statuses(), calm.statuses(), "seed {seed}: {happenings:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_sees_only_the_end_stores_what_one_that_saw_everything_does() {
    for seed in 0..sequences() {
        let mut dice = Dice(seed ^ 0xabcd);
        let mut bench = Bench::with(ceilings(), None);
        for _ in 0..EVENTS {
            let one = happening(&mut dice);
            // What keeps a last good version depends on what was before, and should.
            let keeps = |manifest: &Value| {
                let text = manifest.to_string();
                let last_good = ["ftp:", "secretRef", "mirrorFor"];
                manifest["kind"] == "Virtual" || last_good.iter().any(|word| text.contains(word))
            };
            if matches!(&one, Happening::Apply(manifest) if keeps(manifest)) {
                continue;
            }
            happen(&mut bench, &one);
            // Who is made again within a while has its name again, whoever is older by then.
            let is_end = matches!(&one, Happening::Delete(_));
            if dice.roll(3) == 0 || is_end {
                bench.settle().await;
                bench.wait_for_purges().await;
                tokio::time::advance(GRACE).await;
            }
        }
        bench.settle().await;
        bench.wait_for_purges().await;
        let saw_everything = (stored(&bench).await, bench.statuses());
        bench.forget_sink();
        bench.restart().await;
        assert_eq!((stored(&bench).await, bench.statuses()), saw_everything, "seed {seed}");
    }
}
