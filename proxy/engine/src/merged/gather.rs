//! The members' documents that go into a merge, each fetched or revalidated by its member's own rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
    sync::Arc,
    time::Duration,
};

use artifactapi_formats::{
    IndexError, LinkSigner, PlanError,
    merge::{Kept, Member, Merge, Signer},
};
use artifactapi_model::{Digest, Refusal, Remote, Timestamp, ports::BlobReader};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use super::{Look, memory::Memory};
use crate::{
    Engine,
    blocking::BlockingReader,
    content::CacheOutcome,
    decide::{Decision, Held, decide, effective_mutability},
    error::FetchError,
    fetch::{Need, Obtained},
};

/// Members asked at the same time.
const AT_ONCE: usize = 8;
/// Most documents of one member.
const MAX_DOCUMENTS: usize = 32;
/// In how many forms a document is stored, each of which may be lost: as it came, and as it is served.
const FORMS: usize = 2;
/// Raised when gathering or building changes what is stored.
const SCHEME: u32 = 3;

/// A member's document, as the member serves it.
pub(super) struct Document {
    digest: Digest,
    size: u64,
    reader: Arc<dyn BlobReader>,
}

/// A member with what it has.
pub(super) struct Gathered {
    pub(super) remote: Remote,
    documents: BTreeMap<String, Document>,
    merge: &'static dyn Merge,
    memory: Arc<Memory>,
    links: LinkSigner,
    handle: Handle,
}

/// All members, and how long their word counts.
pub(super) struct All {
    pub(super) members: Vec<Gathered>,
    /// When the oldest document was confirmed.
    pub(super) checked_at: Timestamp,
    /// For how long the first document to grow stale is fresh.
    pub(super) life: Duration,
    /// Whether a document is stale.
    pub(super) is_stale: bool,
}

impl Gathered {
    /// Whether it has nothing of what was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// What the document at `path` is remembered by.
    fn memory_key(&self, path: &str) -> Option<Digest> {
        let document = self.documents.get(path)?;
        let text = format!(
            "{} {}\n{}\n{path}\n{}",
            self.remote.spec.package_type,
            self.merge.version(),
            self.name(),
            document.digest
        );
        Some(Digest::of(text.as_bytes()))
    }
}

impl Member for Gathered {
    fn name(&self) -> &str {
        self.remote.spec.name.as_str()
    }

    fn permits(&self, path: &str) -> bool {
        Engine::permits(&self.remote, path, &self.links)
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError> {
        let Some(document) = self.documents.get(path) else { return Ok(None) };
        Ok(Some(Box::new(BlockingReader::new(document.reader.clone(), document.size, self.handle.clone()))))
    }

    fn kept(&self, path: &str) -> Option<Kept> {
        self.memory.get(&self.memory_key(path)?)
    }

    fn keep(&self, path: &str, kept: Kept, bytes: usize) {
        if let Some(key) = self.memory_key(path) {
            self.memory.put(key, kept, bytes);
        }
    }
}

impl All {
    /// Digest of everything that a merge of this depends on.
    pub(super) fn inputs(&self, look: &Look, signer: &dyn Signer) -> Digest {
        let Look { union, merge, index, .. } = look;
        let mut text = format!(
            "merged {SCHEME}\n{} {}\n{index}\n{}\n{}\n",
            union.package_type,
            merge.version(),
            signer.identity(),
            union.fingerprint
        );
        for member in &self.members {
            text += &format!("{}\n", member.name());
            for (path, document) in &member.documents {
                text += &format!("{path} {}\n", document.digest);
            }
        }
        Digest::of(text.as_bytes())
    }
}

/// How long a document counts.
struct Freshness {
    /// When it was confirmed.
    checked_at: Timestamp,
    /// `None`: it is stale.
    fresh_for: Option<Duration>,
}

impl Engine {
    /// Asks every member for what goes into the index.
    ///
    /// # Errors
    /// That of the first member that cannot say what it has.
    pub(super) async fn gather(self: &Arc<Self>, look: &Look) -> Result<All, FetchError> {
        // Of a name that is one member's the others learn nothing (RS-49).
        let package = look.merge.package(&look.index);
        let ask = |(place, remote): (usize, &Remote)| {
            let may_have_it = package.is_none_or(|name| look.union.rules.may_have(place, name));
            self.gather_one(look, remote.clone(), may_have_it)
        };
        let each: Vec<_> = look.union.members.iter().enumerate().map(ask).collect();
        let each: Vec<_> = futures_util::stream::iter(each).buffered(AT_ONCE).try_collect().await?;
        let mut all = All {
            members: Vec::with_capacity(each.len()),
            checked_at: self.ports.clock.now(),
            life: Duration::MAX,
            is_stale: false,
        };
        for (member, freshness) in each {
            // A member without an index is asked again when its absence is forgotten.
            if member.is_empty() {
                all.life = all.life.min(member.remote.spec.negative_ttl);
            }
            for Freshness { checked_at, fresh_for } in freshness {
                all.checked_at = all.checked_at.min(checked_at);
                all.is_stale |= fresh_for.is_none();
                all.life = all.life.min(fresh_for.unwrap_or_default());
            }
            all.members.push(member);
        }
        Ok(all)
    }

    async fn gather_one(
        self: &Arc<Self>,
        look: &Look,
        remote: Remote,
        may_have_it: bool,
    ) -> Result<(Gathered, Vec<Freshness>), FetchError> {
        let merge = look.merge;
        let name = remote.spec.name.clone();
        let of_member = |error: FetchError| FetchError::Member { name: name.clone(), cause: Arc::new(error) };
        let mut member = Gathered {
            remote,
            documents: BTreeMap::new(),
            merge,
            memory: self.merged.memory.clone(),
            links: self.links.clone(),
            handle: Handle::current(),
        };
        let (mut asked, mut freshness) = (BTreeSet::new(), Vec::new());
        if !may_have_it {
            return Ok((member, freshness));
        }
        loop {
            let worker = self.worker().await;
            let index = look.index.clone();
            let ask = move || {
                let _worker = worker;
                let wanted = merge.needs(&index, &member);
                (member, wanted)
            };
            let (back, wanted) = tokio::task::spawn_blocking(ask).await.map_err(|_| FetchError::Abandoned)?;
            member = back;
            let wanted = wanted.map_err(|error| of_member(error.into()))?;
            let wanted: Vec<_> = wanted.into_iter().filter(|path| asked.insert(path.clone())).collect();
            if wanted.is_empty() {
                return Ok((member, freshness));
            }
            if asked.len() > MAX_DOCUMENTS {
                return Err(of_member(IndexError::TooLarge("number of documents").into()));
            }
            for path in wanted {
                let mut answer = self.document(look, &member.remote, &path).await;
                for _ in 0..FORMS {
                    let Err(error) = &answer else { break };
                    if !error.is_loss() {
                        break;
                    }
                    // By now they are forgotten, and are fetched and made anew.
                    tracing::error!(remote.name = %name, %error, "stored bytes were lost");
                    answer = self.document(look, &member.remote, &path).await;
                }
                match answer {
                    Ok((document, fresh)) => {
                        freshness.push(fresh);
                        member.documents.insert(path, document);
                    }
                    // A path may be one of another member only, as those that name its host.
                    Err(FetchError::NotFound { .. } | FetchError::Plan(PlanError::NotFound(_))) => {}
                    Err(error) => return Err(of_member(error)),
                }
            }
        }
    }

    async fn document(
        self: &Arc<Self>,
        look: &Look,
        remote: &Remote,
        path: &str,
    ) -> Result<(Document, Freshness), FetchError> {
        let resource = self.plan_document(remote, path)?;
        // What it does not serve itself it does not add either. Patterns that are about files need not speak of the
        // index of a whole system; a package that they leave out is not even asked for (RS-49).
        let is_hidden = match Self::permit(remote, &resource) {
            Err(FetchError::Refused(Refusal::NotAllowed)) => look.merge.package(&look.index).is_some(),
            decided => decided.is_err(),
        };
        if is_hidden {
            return Err(FetchError::NotFound { gone: false });
        }
        let obtained = Box::pin(self.obtain(remote, &resource, Need::Whole { depth: 0 })).await?;
        let is_stale = matches!(obtained, Obtained::Held { outcome: CacheOutcome::Stale, .. });
        let entry = obtained.into_entry()?;
        let key = Self::key(remote, &resource);
        let by_policy = remote.spec.policy.mutability(&key.path, resource.mutability);
        let mutability = effective_mutability(by_policy, Some(entry.row.mutability));
        let held = Held { checked_at: entry.row.checked_at };
        let fresh_for =
            match decide(Some(held), &Self::rules(remote, &key, mutability), self.ports.clock.now()) {
                _ if is_stale => None,
                Decision::Serve { fresh_for } => Some(fresh_for.unwrap_or(Duration::MAX)),
                // Its time to live is none: it was confirmed for this look.
                _ => Some(Duration::ZERO),
            };
        let document = if resource.representation.is_some() {
            let (_, derived) = self.derive(remote, &resource, &look.base, &entry).await?;
            let row = &derived.row;
            let reader = match &derived.body {
                Some(body) => crate::blocking::in_memory(body.clone()),
                None => {
                    let opened = self.ports.blobs.open(&row.digest).await.map_err(FetchError::from);
                    if opened.as_ref().is_err_and(FetchError::is_loss) {
                        self.forget_derived(&row.digest).await?;
                    }
                    opened?
                }
            };
            Document { digest: row.digest, size: row.size, reader }
        } else {
            let reader = self.source_of(&key, &entry).await?;
            Document { digest: entry.row.digest, size: entry.row.size, reader }
        };
        Ok((document, Freshness { checked_at: entry.row.checked_at, fresh_for }))
    }
}
