//! Which of the generations that are not current has a path that the current one has not. Only hashes of those paths are
//! in memory: a generation itself is read when one of its paths is asked for, and is not kept for it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use artifactapi_model::Digest;
use quick_cache::Weighter;

use super::generation::{Generation, PROVENANCE};

/// Most paths of one index; those of the oldest generations are left out.
const MAX_PATHS: usize = 100_000;

/// The generations of one index beside the current one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// All generations, newest first.
    rows: Vec<Digest>,
    /// The current one, whose paths are left out.
    base: Option<Digest>,
    /// Which generation has the path of this hash.
    has: HashMap<u64, Digest>,
}

impl Past {
    /// That of `rows` beside `base`, with what `before` knows of them.
    pub(super) fn after(before: Option<&Past>, base: Option<Digest>, rows: Vec<Digest>) -> Self {
        let mut has = before.map(|before| before.has.clone()).unwrap_or_default();
        has.retain(|_, inputs| rows.contains(inputs));
        Past { rows, base, has }
    }

    /// The generations that `before` did not look through, newest first.
    pub(super) fn missing(&self, before: Option<&Past>) -> Vec<Digest> {
        let is_known = |inputs: &Digest| {
            before.is_some_and(|before| before.base != Some(*inputs) && before.rows.contains(inputs))
        };
        let missing = self.rows.iter().filter(|inputs| self.base != Some(**inputs) && !is_known(inputs));
        missing.copied().collect()
    }

    /// Takes what `generation`, made of `inputs`, has and `current` has not.
    pub(super) fn add(&mut self, inputs: Digest, generation: &Generation, current: Option<&Generation>) {
        for path in generation.paths().filter(|path| current.is_none_or(|current| !current.has_path(path))) {
            if self.has.len() >= MAX_PATHS {
                return;
            }
            self.has.entry(hash(path)).or_insert(inputs);
        }
    }

    /// The generations that may have `path`, or what it lies beside.
    pub(super) fn with<'a>(
        &'a self,
        path: &'a str,
        beside: Option<&'a str>,
    ) -> impl Iterator<Item = Digest> + 'a {
        let paths = [Some(path), path.strip_suffix(PROVENANCE), beside];
        paths.into_iter().flatten().filter_map(|path| self.has.get(&hash(path)).copied())
    }

    /// All generations, newest first.
    pub(super) fn rows(&self) -> &[Digest] {
        &self.rows
    }

    /// Whether it is beside `base`.
    pub(super) fn is_of(&self, base: Option<Digest>) -> bool {
        self.base == base
    }

    /// Whether it is that of `rows` beside `base`.
    pub(super) fn is(&self, base: Option<Digest>, rows: &[Digest]) -> bool {
        self.is_of(base) && self.rows == rows
    }
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// What it takes in memory.
#[derive(Clone)]
pub(crate) struct ByBytes;

impl Weighter<Digest, Arc<Past>> for ByBytes {
    fn weight(&self, _: &Digest, past: &Arc<Past>) -> u64 {
        let entry = size_of::<(u64, Digest)>() + 1;
        (256 + past.rows.capacity() * size_of::<Digest>() + past.has.capacity() * entry * 8 / 7) as u64
    }
}
