//! Caches that are bounded by weight and take whatever they have room for.
//!
//! quick_cache divides its capacity evenly among shards, four per processor, and turns away in silence what is
//! heavier than one shard's share: the larger the machine, the smaller what it keeps. Here the shares follow from the
//! heaviest entry instead.

use std::{hash::Hash, thread::available_parallelism};

use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync::Cache};

/// How many of the heaviest entries each shard has room for.
const ROOM: u64 = 4;
/// More shards than that do not lessen the wait for a lock.
const PER_PROCESSOR: usize = 4;

/// A cache of about `items` entries that weigh at most `capacity` together. One of them weighs at most `heaviest`; one
/// that is heavier may find no room. `u64::MAX` stands for no such bound: then all of `capacity` is one entry's to have,
/// for caches that are not asked thousands of times a second.
pub(crate) fn cache<K, V, W>(items: usize, capacity: u64, heaviest: u64, weighter: W) -> Cache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let shards = shards(capacity, heaviest, available_parallelism().map_or(1, usize::from));
    let options = OptionsBuilder::new()
        .estimated_items_capacity(items)
        .weight_capacity(capacity)
        .shards(shards)
        .build()
        .unwrap_or_else(|error| unreachable!("both capacities are set: {error}"));
    Cache::with_options(options, weighter, DefaultHashBuilder::default(), Default::default())
}

/// The most that one entry of a cache of `capacity` may weigh where it has all of it: some is kept for newcomers.
pub(crate) fn most(capacity: u64) -> u64 {
    (capacity - capacity.div_ceil(20)).max(1)
}

/// A power of two, as the number would be rounded up to one.
fn shards(capacity: u64, heaviest: u64, processors: usize) -> usize {
    let most = usize::try_from(capacity / heaviest.saturating_mul(ROOM).max(1)).unwrap_or(usize::MAX);
    let shards = most.min(processors.saturating_mul(PER_PROCESSOR)).max(1);
    1 << shards.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct ByValue;

    impl Weighter<u32, u64> for ByValue {
        fn weight(&self, _: &u32, value: &u64) -> u64 {
            *value
        }
    }

    #[test]
    fn what_there_is_room_for_is_taken() {
        let cache = cache(1024, 1000, u64::MAX, ByValue);
        for key in 0..100 {
            cache.insert(key, 900);
            assert_eq!(cache.get(&key), Some(900), "{key}");
            assert!(cache.weight() <= 1000, "{key}");
        }
        cache.insert(0, most(1000));
        assert_eq!(cache.get(&0), Some(most(1000)));
        cache.insert(0, 1001);
        assert_eq!(cache.get(&0), None);
    }

    #[test]
    fn more_processors_leave_room_for_the_heaviest() {
        for processors in [1, 2, 7, 64, 1024] {
            let shards = shards(32 << 20, 512 << 10, processors);
            assert!((32 << 20) / shards as u64 >= ROOM * (512 << 10), "{processors}: {shards}");
            assert!(
                shards.is_power_of_two() && shards <= PER_PROCESSOR * processors,
                "{processors}: {shards}"
            );
        }
        assert_eq!(shards(32 << 20, 1 << 10, 16), 64);
        assert_eq!(shards(0, 0, 1), 1);
    }
}
