//! What a request shows of itself. Pure.

use artifactapi_model::account::RobotToken;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header::AUTHORIZATION};

use super::signed;

/// Clients disagree about the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The credentials of a request.
#[derive(Debug)]
pub(super) enum Shown<'a> {
    /// None.
    Nothing,
    /// A robot's token, well formed.
    Token(RobotToken),
    /// A short-lived token; nobody has looked whether it is good.
    Signed(&'a str),
    /// Something that cannot be ours.
    Unusable,
}

/// Reads `Authorization`.
pub(super) fn shown(headers: &HeaderMap) -> Shown<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Shown::Nothing };
    // Of several nobody can say which one is meant.
    let Some(text) = value.to_str().ok().filter(|_| values.next().is_none()) else { return Shown::Unusable };
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return if rest.starts_with(signed::PREFIX) { Shown::Signed(rest) } else { token(rest) };
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Shown::Unusable;
    }
    let decoded = BASE64.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        None => Shown::Unusable,
        Some(("", "")) => Shown::Nothing,
        Some((user, password)) => login(user, password),
    }
}

/// A user name and a password: the name does not matter, unless there is no more than it (`https://TOKEN@host/`).
pub(super) fn login(user: &str, password: &str) -> Shown<'static> {
    token(if password.is_empty() { user } else { password })
}

/// A robot's token alone.
pub(super) fn token(text: &str) -> Shown<'static> {
    RobotToken::parse(text).map_or(Shown::Unusable, Shown::Token)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        match shown(&headers) {
            Shown::Nothing => "nothing".into(),
            Shown::Token(token) => token.expose().into(),
            Shown::Signed(text) => text.into(),
            Shown::Unusable => "unusable".into(),
        }
    }

    #[test]
    fn a_token_is_found_where_clients_put_it() {
        let token = RobotToken::generate().unwrap();
        let token = token.expose();
        let basic = |pair: String| format!("Basic {}", STANDARD.encode(pair));
        for shown in [
            basic(format!("anyone:{token}")),
            basic(format!(":{token}")),
            basic(format!("{token}:")),
            basic(format!("x:{token}")).replace("Basic", "bAsIc").trim_end_matches('=').to_owned(),
            format!("Bearer {token}"),
            format!("bearer   {token}"),
        ] {
            assert_eq!(of(&[&shown]), token, "{shown}");
        }
        assert_eq!(of(&[]), "nothing");
        assert_eq!(of(&[&basic(":".into())]), "nothing");
        let signed = format!("{}a.b", signed::PREFIX);
        assert_eq!(of(&[&format!("Bearer {signed}")]), signed);
        let bearer = format!("Bearer {token}");
        let changed = format!("Bearer {}x", &token[..token.len() - 1]);
        for bad in [
            &[bearer.as_str(), bearer.as_str()][..],
            &[&basic(format!("{token}:password"))],
            &[&basic("no colon".into())],
            &["Basic ???"],
            &["Basic"],
            &["Bearer"],
            &["Negotiate abc"],
            &[&changed],
            &[""],
        ] {
            assert_eq!(of(bad), "unusable", "{bad:?}");
        }
    }
}
