//! Retention of one Remote: what nobody asked for in a while goes, then the least recently used above a size.

use artifactapi_model::{Remote, ports::housekeeping::Aged};

use super::{AT_ONCE, Collector, Evicted, GcError, Options, before};

impl Collector {
    pub(super) async fn retain_of(&self, remote: &Remote, options: &Options) -> Result<Evicted, GcError> {
        let mut evicted = Evicted::default();
        // Which ones are unused for long cannot be asked without forgetting them.
        if !options.dry {
            self.drop_unused(remote, options, &mut evicted).await?;
        }
        self.drop_surplus(remote, options, &mut evicted).await?;
        Ok(evicted)
    }

    async fn drop_unused(
        &self,
        remote: &Remote,
        options: &Options,
        evicted: &mut Evicted,
    ) -> Result<(), GcError> {
        let Some(unused_for) = remote.spec.retention.unused_for else { return Ok(()) };
        let (id, epoch) = (remote.identity.id, remote.identity.epoch);
        let before = before(self.clock.now(), unused_for);
        loop {
            let gone = self.keeper.expire_unused(id, epoch, before, options.step).await?;
            let last = gone.len() < options.step;
            gone.into_iter().for_each(|key| evicted.add(key));
            if last {
                return Ok(());
            }
        }
    }

    async fn drop_surplus(
        &self,
        remote: &Remote,
        options: &Options,
        evicted: &mut Evicted,
    ) -> Result<(), GcError> {
        let Some(most) = remote.spec.retention.max_bytes else { return Ok(()) };
        let (id, epoch) = (remote.identity.id, remote.identity.epoch);
        let mut used = self.keeper.usage(id, epoch).await?.bytes;
        while used > most {
            let step = if options.dry { AT_ONCE } else { options.step };
            let page = self.keeper.least_used(id, epoch, step).await?;
            let surplus = surplus(used, most, page.iter().map(|aged| aged.size));
            if surplus == 0 {
                return Ok(());
            }
            for Aged { key, digest, size, used_at: _ } in page.into_iter().take(surplus) {
                if !options.dry {
                    self.metadata.forget_artifact(&key, &digest).await?;
                }
                used = used.saturating_sub(size);
                evicted.add(key);
            }
        }
        Ok(())
    }
}

/// How many of `sizes`, from the front, have to go so that no more than `most` of `used` bytes are left; all of
/// them when that is not enough.
fn surplus(used: u64, most: u64, sizes: impl Iterator<Item = u64>) -> usize {
    let mut left = used;
    let goes = sizes.take_while(|size| {
        let over = left > most;
        left = left.saturating_sub(*size);
        over
    });
    goes.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_go_as_have_to() {
        for (used, most, sizes, want) in [
            (10, 10, vec![5, 5], 0),
            (11, 10, vec![1, 5, 5], 1),
            (11, 10, vec![5, 5, 1], 1),
            (20, 10, vec![5, 5, 10], 2),
            (20, 10, vec![0, 0, 20], 3),
            (20, 10, vec![5], 1),
            (20, 0, vec![5, 15], 2),
            (20, 10, vec![], 0),
        ] {
            assert_eq!(surplus(used, most, sizes.iter().copied()), want, "{used} {most} {sizes:?}");
        }
    }
}
