//! `X-Request-Id`: taken from the client when it is usable, made otherwise.

use std::{
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    ops::Deref,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::HeaderValue;

/// Longest id taken from a client.
const MAX_LENGTH: usize = 128;

static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0)));

/// An id of 1 to 128 letters, digits, `-`, `_`, `.`, `:`, `+`, `/` or `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The id for a request that came with `header`.
    pub fn of(header: Option<&HeaderValue>) -> Self {
        header.and_then(|value| value.to_str().ok()).and_then(Self::given).unwrap_or_else(Self::made)
    }

    /// The client's id, where it is one.
    pub fn given(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte);
        ((1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(fits)).then(|| RequestId(text.into()))
    }

    fn made() -> Self {
        let mut text = String::with_capacity(16);
        // Writing to a String cannot fail.
        let _ = write!(text, "{:016x}", mix(NEXT.fetch_add(1, Relaxed)));
        RequestId(text.into())
    }

    /// A number to spread retries by.
    pub fn seed(&self) -> u64 {
        self.0.bytes().fold(0, |sum, byte| mix(sum ^ u64::from(byte)))
    }

    /// The id as a header.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

/// The output function of SplitMix64: consecutive numbers become unlike ones, no two the same.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_name_its_request() {
        for good in ["a", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "Root=1-67:a/b+c=="] {
            assert_eq!(&*RequestId::of(Some(&HeaderValue::from_static(good))), good);
        }
        for bad in ["", "a b", "a\"b", "a;b", &"a".repeat(129)] {
            assert_ne!(&*RequestId::of(Some(&HeaderValue::from_str(bad).unwrap())), bad);
        }
        assert_ne!(RequestId::of(None), RequestId::of(None));
    }
}
