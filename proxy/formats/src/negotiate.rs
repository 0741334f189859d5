//! Content negotiation: how much a client wants a media type (RFC 9110, 12.5.1).

/// How an `Accept` header rates a media type: by quality first, then by how exactly it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rating {
    /// Thousandths; 0 means "not acceptable".
    pub(crate) quality: u16,
    /// 2 for the type itself, 1 for `type/*`, 0 for `*/*`.
    pub(crate) exactness: u8,
}

/// Rates `media` (lower case, without parameters) by the most exact range of `accept` that covers it;
/// `None` when no range does. Parameters other than `q` are not compared.
pub(crate) fn rate(accept: &str, media: &str) -> Option<Rating> {
    let (main, _) = media.split_once('/')?;
    let mut best: Option<Rating> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let exactness = if name == media {
            2
        } else if name.strip_suffix("/*") == Some(main) {
            1
        } else if name == "*/*" || name == "*" {
            0
        } else {
            continue;
        };
        let quality = parts.find_map(weight).unwrap_or(1000);
        if best.is_none_or(|best| best.exactness < exactness) {
            best = Some(Rating { quality, exactness });
        }
    }
    best
}

/// The value of a `q=` parameter in thousandths; what is no number counts as 0.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    // Clamped before the cast, so it cannot lose anything but the digits RFC 9110 does not allow.
    Some(if value.is_finite() { (value.clamp(0.0, 1.0) * 1000.0).round() as u16 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_range_rates() {
        let accept = "text/*;q=0.3, text/html; level=1;q=0.7, text/plain;q=0, */*;q=0.5";
        for (media, want) in [
            ("text/html", Some((700, 2))),
            ("text/css", Some((300, 1))),
            ("text/plain", Some((0, 2))),
            ("image/png", Some((500, 0))),
        ] {
            let rating = rate(accept, media).map(|r| (r.quality, r.exactness));
            assert_eq!(rating, want, "{media}");
        }
        assert_eq!(rate("", "text/html"), None);
        assert_eq!(rate("text/html;q=x", "text/html"), Some(Rating { quality: 0, exactness: 2 }));
        assert_eq!(rate("text/html;q=7", "text/html"), Some(Rating { quality: 1000, exactness: 2 }));
        assert_eq!(rate("TEXT/HTML", "text/html"), Some(Rating { quality: 1000, exactness: 2 }));
    }
}
