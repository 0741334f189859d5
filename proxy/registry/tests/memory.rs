//! What reading a manifest holds at its peak, whatever 4 MiB somebody made of it.

mod counting {
    //! Counts what is allocated, as `malloc` hands it out: short texts cost it far more than their length.

    #![expect(unsafe_code, reason = "an allocator is unsafe; this one passes everything on as it came")]

    use std::{
        alloc::{GlobalAlloc, Layout, System},
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    static HELD: AtomicUsize = AtomicUsize::new(0);
    static PEAK: AtomicUsize = AtomicUsize::new(0);

    #[global_allocator]
    static COUNTING: Counting = Counting;

    struct Counting;

    fn took(size: usize) {
        PEAK.fetch_max(HELD.fetch_add(cost(size), Relaxed) + cost(size), Relaxed);
    }

    fn cost(size: usize) -> usize {
        (size + 8).next_multiple_of(16).max(32)
    }

    // SAFETY: `System` does the work, with the arguments that came.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            took(layout.size());
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            HELD.fetch_sub(cost(layout.size()), Relaxed);
            unsafe { System.dealloc(pointer, layout) }
        }

        // The old place and the new one are both there while bytes are moved.
        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            took(size);
            HELD.fetch_sub(cost(layout.size()), Relaxed);
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    /// What `call` returns, and how many bytes it held at most beside those that were held before.
    pub(crate) fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        let returned = call();
        (returned, PEAK.load(Relaxed) - before)
    }
}

use artifactapi_registry::manifest::{MAX_MANIFEST, OCI_MANIFEST, parse};

const MIB: usize = 1 << 20;
const CONFIG: &str = r#""config":{"mediaType":"x","size":0,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;

/// `begin`, as many of `items` as a manifest has room for, and `end`.
fn filled(begin: &str, items: impl Iterator<Item = String>, end: &str) -> String {
    let mut text = String::with_capacity(MAX_MANIFEST);
    text.push_str(begin);
    for item in items {
        if text.len() + item.len() + end.len() > MAX_MANIFEST {
            break;
        }
        text.push_str(&item);
        text.push(',');
    }
    assert_eq!(text.pop(), Some(','));
    text + end
}

fn same(item: &str) -> impl Iterator<Item = String> {
    std::iter::repeat(item.to_owned())
}

/// The shortest keys, each with `value`.
fn keyed(value: &str) -> impl Iterator<Item = String> {
    let letters = || (b'#'..=b'~').map(char::from).filter(|letter| *letter != '\\');
    let pairs = move || letters().flat_map(move |a| letters().map(move |b| (a, b)));
    let keys = letters().flat_map(move |a| pairs().map(move |(b, c)| format!("{a}{b}{c}")));
    keys.map(move |key| format!("\"{key}\":{value}"))
}

#[test]
fn rs_66_no_manifest_costs_much_to_read() {
    let nest = |depth: usize| format!("{}0{}", r#"{"":["#.repeat(depth), "]}".repeat(depth));
    let layer = |n: usize| format!(r#"{{"mediaType":"x","size":0,"digest":"sha256:{n:064x}"}}"#);
    let image = |entry: &str| format!(r#"{{"schemaVersion":2,{CONFIG},{entry}"#);
    let long = format!(r#"{}"x":{{"{}":0}}}}"#, image(""), "\\u0041".repeat(690_000));
    // What is kept of one has its price: 0 is for what is dropped, and annotations have two texts each.
    for (what, is_good, limit, text) in [
        ("objects", true, 0, filled(&image(r#""x":["#), same(r#"{"":0}"#), "]}")),
        ("objects within objects", true, 0, filled(&image(r#""x":["#), same(&nest(50)), "]}")),
        ("lists", true, 0, filled(&image(r#""x":["#), same("[]"), "]}")),
        ("no layers", false, 0, filled(r#"{"layers":["#, same(r#"{"size":0}"#), "]}")),
        ("no manifests", false, 0, filled(r#"{"manifests":["#, same("0"), "]}")),
        ("keys", true, 16, filled(&image(r#""x":{"#), keyed("0"), "}}")),
        ("one key again and again", false, 16, filled(&image(r#""x":{"#), same(r#""":0"#), "}}")),
        ("a long key", true, 16, long),
        ("layers", true, 8, filled(&image(r#""layers":["#), (0..).map(layer), "]}")),
        ("annotations", true, 72, filled(&image(r#""annotations":{"#), keyed(r#""""#), "}}")),
        ("annotations with text", true, 72, filled(&image(r#""annotations":{"#), keyed(r#""x""#), "}}")),
    ] {
        assert!(text.len() <= MAX_MANIFEST && text.len() > MAX_MANIFEST / 5 * 4, "{what}: {}", text.len());
        let (parsed, peak) = counting::peak(|| parse(text.as_bytes(), Some(OCI_MANIFEST)));
        println!("{what}: {:.2} MiB", peak as f64 / MIB as f64);
        assert_eq!(parsed.is_ok(), is_good, "{what}: {:?}", parsed.err());
        assert!(peak <= limit * MIB + (64 << 10), "{what}: {peak} bytes");
    }
}
