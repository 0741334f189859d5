//! Which bodies the tier has, how large they are, and which was used longest ago.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use artifactapi_model::Digest;

/// A use is written to disk, for the next start, at most this often.
const WRITTEN_EVERY: Duration = Duration::from_secs(600);
/// First part of the order of everything used since the start; what was there before has its file's time.
const SINCE_START: u64 = 1 << 62;

/// When something was last used.
type Order = (u64, u64);

/// The tier's books. The files are the truth: whoever finds them to differ corrects the books.
#[derive(Debug)]
pub(super) struct Index {
    bound: u64,
    /// Bytes of the entries.
    bytes: u64,
    /// Bytes promised to bodies on their way in.
    promised: u64,
    entries: HashMap<Digest, Entry>,
    by_use: BTreeMap<Order, Digest>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    order: Order,
    written: Option<Instant>,
}

impl Index {
    pub(super) fn new(bound: u64) -> Self {
        let (entries, by_use) = (HashMap::new(), BTreeMap::new());
        Index { bound, bytes: 0, promised: 0, entries, by_use, clock: 0 }
    }

    /// Bytes in the tier.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn next(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn put(&mut self, digest: Digest, size: u64, order: Order, written: Option<Instant>) {
        self.forget(&digest);
        self.bytes += size;
        self.entries.insert(digest, Entry { size, order, written });
        self.by_use.insert(order, digest);
    }

    /// `digest` is there and in use. `true`: the use should be written to disk.
    pub(super) fn used(&mut self, digest: Digest, size: u64) -> bool {
        let now = Instant::now();
        let written = self.entries.get(&digest).and_then(|entry| entry.written);
        let due = written.is_none_or(|written| now.duration_since(written) >= WRITTEN_EVERY);
        let order = (SINCE_START, self.next());
        self.put(digest, size, order, if due { Some(now) } else { written });
        due
    }

    /// `digest` was there before the start, last used at `seconds`.
    pub(super) fn found(&mut self, digest: Digest, size: u64, seconds: i64) {
        if !self.entries.contains_key(&digest) {
            let seconds = u64::try_from(seconds).unwrap_or(0).min(SINCE_START - 1);
            let order = (seconds, self.next());
            self.put(digest, size, order, None);
        }
    }

    /// `digest` is not there.
    pub(super) fn forget(&mut self, digest: &Digest) {
        if let Some(entry) = self.entries.remove(digest) {
            self.bytes -= entry.size;
            self.by_use.remove(&entry.order);
        }
    }

    /// Promises room for `size` bytes, if they can ever fit.
    pub(super) fn promise(&mut self, size: u64) -> bool {
        let fits = self.promised.checked_add(size).is_some_and(|promised| promised <= self.bound);
        if fits {
            self.promised += size;
        }
        fits
    }

    /// Takes a promise back.
    pub(super) fn release(&mut self, size: u64) {
        self.promised -= size;
    }

    /// Forgets what was used longest ago until all that is there and promised fits; the caller removes the
    /// files.
    pub(super) fn make_room(&mut self) -> Vec<Digest> {
        let mut gone = Vec::new();
        while self.bytes + self.promised > self.bound && self.forget_oldest(&mut gone) {}
        gone
    }

    /// Forgets what was used longest ago, `bytes` of it: the disk is full before the tier is.
    pub(super) fn give_up(&mut self, bytes: u64) -> Vec<Digest> {
        let (mut gone, before) = (Vec::new(), self.bytes);
        while before - self.bytes < bytes && self.forget_oldest(&mut gone) {}
        gone
    }

    fn forget_oldest(&mut self, gone: &mut Vec<Digest>) -> bool {
        let Some(digest) = self.by_use.first_key_value().map(|(_, digest)| *digest) else { return false };
        self.forget(&digest);
        gone.push(digest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut index = Index::new(100);
        index.found(digest(1), 30, 2_000);
        index.found(digest(2), 30, 1_000);
        assert!(index.used(digest(3), 30), "the first use is written to disk");
        assert!(!index.used(digest(3), 30), "the second is not");
        assert_eq!(index.bytes(), 90);
        assert!(index.promise(40));
        assert_eq!(index.make_room(), [digest(2)]);
        index.release(40);
        assert!(index.used(digest(1), 30));
        assert!(index.promise(60));
        assert_eq!(index.make_room(), [digest(3)]);
        index.release(60);
        assert_eq!(index.bytes(), 30);
        index.found(digest(1), 70, 5);
        assert_eq!(index.bytes(), 30, "what was used since the start is known better");
        assert_eq!(index.give_up(1), [digest(1)]);
        assert_eq!(index.give_up(1), []);
        assert_eq!((index.bytes(), index.by_use.len(), index.entries.len()), (0, 0, 0));
    }

    #[test]
    fn no_more_is_promised_than_there_can_be() {
        let mut index = Index::new(100);
        assert!(!index.promise(101));
        assert!(!index.promise(u64::MAX));
        assert!(index.promise(60));
        assert!(!index.promise(41));
        assert!(index.promise(40));
        index.release(60);
        assert!(index.promise(60));
        assert_eq!(index.make_room(), []);
    }
}
