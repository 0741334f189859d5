//! What holds for any members.

use proptest::prelude::*;

use super::{hostile::bad, *};

type Generated = Vec<Vec<(u8, u8, u8)>>;

const EPOCHS: [&str; 3] = ["0", "", "1"];
const NAMES: [&str; 3] = ["p0", "p1", "p2"];
const NOTES: [&str; 4] = ["m0", "m1", "m2", "m3"];

fn generated(members: &Generated) -> Vec<Vec<Package>> {
    let of = |(place, packages): (usize, &Vec<(u8, u8, u8)>)| {
        let of = |(name, epoch, version): &(u8, u8, u8)| Package {
            epoch: EPOCHS[usize::from(*epoch)],
            note: NOTES[place],
            ..package(NAMES[usize::from(*name)], ["1", "2"][usize::from(*version)])
        };
        packages.iter().map(of).collect()
    };
    members.iter().enumerate().map(of).collect()
}

fn naive(members: &[Vec<Package>], rules: &Table, hidden: &str) -> BTreeMap<String, usize> {
    let (mut listed, mut owners, mut nevras) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (place, packages) in members.iter().enumerate() {
        for package in packages {
            let nevra = (package.name, package.epoch.max("0"), package.version);
            if package.path() == hidden
                || rules.owners.get(package.name).is_some_and(|owner| *owner != place)
                || rules.names_first && *owners.entry(package.name).or_insert(place) != place
                || nevras.contains(&nevra)
            {
                continue;
            }
            nevras.push(nevra);
            listed.insert(format!("-/m/m{place}/{}", package.path()), place);
        }
    }
    listed
}

fn any_members() -> impl Strategy<Value = Generated> {
    prop::collection::vec(prop::collection::vec((0..3u8, 0..3u8, 0..2u8), 0..8), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_merge_is_what_going_through_everything_gives(
        members in any_members(), names_first: bool, owned in prop::option::of((0..3usize, 0..3usize)),
    ) {
        let owners = owned.map(|(name, owner)| (NAMES[name].to_owned(), owner % members.len()));
        let rules = Table { names_first, owners: owners.into_iter().collect() };
        let members = generated(&members);
        let hidden = package("p0", "2").path();
        let built = build(&members, &hidden);
        let got = merge(&built, &rules).unwrap();
        let want = naive(&members, &rules, &hidden);
        prop_assert_eq!(&got.listed, &want);
        prop_assert_eq!(advertised(&got), want.into_keys().collect::<Vec<_>>());
        for end in ["-filelists.xml.gz", "-other.xml.gz"] {
            prop_assert_eq!(file(&got, end).unwrap().matches("<package ").count(), got.listed.len());
        }
        prop_assert_eq!(&merge(&built, &rules).unwrap(), &got, "deterministic");
        // A member behind itself adds nothing.
        let twice: Vec<_> = build(&members, &hidden).into_iter().chain(build(&members, &hidden)).collect();
        prop_assert_eq!(&merge(&twice, &rules).unwrap(), &got, "idempotent");
    }

    #[test]
    fn rs_63_a_torn_or_bent_document_is_an_error_or_read_alike(kind in 0..3usize, cut in 0..400usize, byte: u8) {
        let kind = ["primary", "filelists", "other"][kind];
        let whole = Repository::of(&[package("b", "1")]);
        let mut body = whole.document(kind).into_bytes();
        let cut = cut % body.len();
        body[cut] = byte;
        if let Ok(got) = merge(&[bad(kind, body.clone())], &Table::default()) {
            prop_assert_eq!(got.listed.keys().cloned().collect::<Vec<_>>(), advertised(&got));
        }
        body.truncate(cut);
        prop_assert!(merge(&[bad(kind, body)], &Table::default()).is_err());
    }
}
