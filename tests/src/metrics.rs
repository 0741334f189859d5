//! The proxy's metrics page as numbers.

use std::collections::BTreeMap;

use crate::{Proxy, http};

/// Every sample of the page under its name with labels, as `artifactapi_requests_total{remote="r",…}`.
///
/// # Panics
/// When the page does not come or holds a line that is no sample.
pub async fn samples(proxy: &Proxy) -> BTreeMap<String, f64> {
    samples_at(&proxy.metrics_url()).await
}

/// The same of the page at `url`.
///
/// # Panics
/// When the page does not come or holds a line that is no sample.
pub async fn samples_at(url: &str) -> BTreeMap<String, f64> {
    let page = http::get(url).await;
    assert!(page.is_ok(), "{page:?}");
    let text = page.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("a name and a value: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("a number: {line}")))
    };
    lines.map(sample).collect()
}

/// By how much the samples of the family `name` have grown, under the value of their only label. Those that
/// have not grown are left out.
pub fn growth(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    name: &str,
) -> BTreeMap<String, f64> {
    let mut grown = BTreeMap::new();
    for (sample, now) in after {
        let Some(labels) = sample.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) else {
            continue;
        };
        let growth = now - before.get(sample).unwrap_or(&0.0);
        if growth != 0.0 {
            let value = labels.split('"').nth(1).unwrap_or(labels);
            grown.insert(value.to_owned(), growth);
        }
    }
    grown
}
