//! Which member each advertised file comes from, for as many files as an index may have: the paths lie in one text, in
//! their order, and are found by halves.

use artifactapi_formats::merge::Listed;

/// Paths of a Virtual with the places of their members.
#[derive(Debug, Default)]
pub(super) struct Listing {
    paths: String,
    /// Where each path ends, in the order of the paths, and its member.
    ends: Vec<(usize, u16)>,
}

impl Listing {
    /// That of `listed`, in any order; of a path that comes again the last one counts. `None` when a member's place is
    /// past what a Virtual can have.
    pub(super) fn of(mut listed: Vec<Listed>) -> Option<Self> {
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = listed.iter().map(|it| it.path.len()).sum();
        let mut listing =
            Listing { paths: String::with_capacity(bytes), ends: Vec::with_capacity(listed.len()) };
        for same in listed.chunk_by(|a, b| a.path == b.path) {
            let Some(Listed { path, member }) = same.last() else { continue };
            listing.push(path, u16::try_from(*member).ok()?)?;
        }
        Some(listing)
    }

    /// Adds a path that comes after all others; `None` when it does not.
    pub(super) fn push(&mut self, path: &str, member: u16) -> Option<()> {
        if self.ends.len().checked_sub(1).is_some_and(|last| self.path(last) >= path) {
            return None;
        }
        self.paths.push_str(path);
        self.ends.push((self.paths.len(), member));
        Some(())
    }

    fn path(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].0);
        &self.paths[start..self.ends[place].0]
    }

    /// How many paths there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What it takes in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.paths.capacity() + self.ends.capacity() * size_of::<(usize, u16)>()
    }

    /// The place of the member that advertises `path`.
    pub(super) fn get(&self, path: &str) -> Option<u16> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.path(middle).cmp(path) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(self.ends[middle].1),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All paths in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        (0..self.len()).map(|place| (self.path(place), self.ends[place].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(listed: &[(&str, usize)]) -> Option<Listing> {
        Listing::of(
            listed.iter().map(|(path, member)| Listed { path: (*path).into(), member: *member }).collect(),
        )
    }

    #[test]
    fn every_path_is_found_and_no_other() {
        let found = listing(&[("b", 1), ("a/c", 0), ("a", 2), ("", 3), ("b", 4), ("é", 5)]).unwrap();
        let all: Vec<_> = found.iter().collect();
        assert_eq!(all, [("", 3), ("a", 2), ("a/c", 0), ("b", 4), ("é", 5)]);
        for (path, member) in all {
            assert_eq!(found.get(path), Some(member), "{path}");
        }
        for path in ["a/", "a/cc", "c", "0", "\u{10ffff}"] {
            assert_eq!(found.get(path), None, "{path}");
        }
        assert_eq!(Listing::default().get(""), None);
    }

    #[test]
    fn what_is_out_of_order_or_out_of_bounds_is_none() {
        let mut found = listing(&[("a", 0), ("c", 1)]).unwrap();
        assert_eq!(found.push("b", 0), None);
        assert_eq!(found.push("c", 0), None);
        assert_eq!(found.push("d", 0), Some(()));
        assert!(listing(&[("a", 70_000)]).is_none());
    }
}
