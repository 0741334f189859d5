//! Fence numbers taken from the database in blocks: a miss then costs one synced write, not two.
//!
//! A block is durable before its first number is given. What a crash leaves unused is never given again; gaps
//! do no harm.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Numbers reserved at a time.
pub(super) const BLOCK: i64 = 1_000;

/// Reserved numbers that are left; none at first.
#[derive(Default)]
pub(super) struct Numbers(Mutex<Range<i64>>);

impl Numbers {
    /// The next one; `None` when a block is needed.
    pub(super) fn take(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Adds the block that ends in `last`. Two callers may have reserved at once: the later block wins whatever
    /// the order in which they come here, since a number must be higher than any given before.
    pub(super) fn add_block_up_to(&self, last: i64) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last >= left.end {
            *left = last - BLOCK + 1..last + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_block_that_comes_late_is_left_unused() {
        let numbers = Numbers::default();
        assert_eq!(numbers.take(), None);
        numbers.add_block_up_to(2 * BLOCK);
        assert_eq!(numbers.take(), Some(BLOCK + 1));
        numbers.add_block_up_to(BLOCK);
        assert_eq!(numbers.take(), Some(BLOCK + 2));
        while numbers.take().is_some() {}
        numbers.add_block_up_to(BLOCK);
        assert_eq!(numbers.take(), None, "numbers never go back");
        numbers.add_block_up_to(3 * BLOCK);
        assert_eq!(numbers.take(), Some(2 * BLOCK + 1));
    }
}
