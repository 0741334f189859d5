//! Where a chart version lies and what it hashes to.

use artifactapi_model::{Checksum, repository::RemoteSpec};
use serde_json::Value;
use url::Url;

use crate::{
    Fact, RewriteContext, Source,
    placement::{Placement, place, url_of},
};

/// What relative chart URLs refer to: the directory of the index below `baseURL`. Helm joins them to the
/// repository's configured URL, whatever redirects led to the index.
fn directory(source: &Source<'_>, remote: &RemoteSpec) -> Option<Url> {
    url_of(&remote.base_url, source.path.parent())
}

fn placement(url: &str, source: &Source<'_>, remote: &RemoteSpec) -> Placement {
    match directory(source, remote).and_then(|directory| directory.join(url).ok()) {
        Some(url) => place(remote, source.url, &url),
        None => Placement::Dropped,
    }
}

/// Puts our URLs into a chart version; false when none of its URLs is left, so that nobody can have it.
pub(super) fn rewrite(entry: &mut Value, source: &Source<'_>, cx: &RewriteContext<'_>) -> bool {
    let Some(urls) = entry.get_mut("urls").and_then(Value::as_array_mut) else { return true };
    let had_any = !urls.is_empty();
    urls.retain_mut(|value| {
        let Some(url) = value.as_str() else { return false };
        if url.starts_with("oci://") {
            return true;
        }
        let reference = placement(url, source, cx.remote).reference(source.path.as_str(), cx);
        reference.map(|reference| *value = reference.relative_to(source.path).into()).is_some()
    });
    !(had_any && urls.is_empty())
}

/// Tells what a chart version says about its file. A provenance file has no published hash; only where it
/// is has to be told.
pub(super) fn facts(entry: &Value, source: &Source<'_>, remote: &RemoteSpec, sink: &mut dyn FnMut(Fact)) {
    let digest = entry.get("digest").and_then(Value::as_str);
    let digest = digest.map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest));
    let checksum = digest.and_then(|digits| Checksum::from_hex("sha256", digits));
    let urls = entry.get("urls").and_then(Value::as_array).into_iter().flatten();
    for url in urls.filter_map(Value::as_str) {
        let placement = placement(url, source, remote);
        placement.fact("", checksum.clone().into_iter().collect()).map(&mut *sink);
        if let Placement::Linked(_) = placement {
            placement.fact(".prov", Vec::new()).map(&mut *sink);
        }
    }
}
