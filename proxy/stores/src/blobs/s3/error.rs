//! From what S3 says to errors of the port. Neither keys nor signed headers are ever part of a text: only the
//! status, the store's error code and its message are taken from an answer.

use std::{error::Error, fmt, io};

use artifactapi_model::ports::BlobError;
use object_store::client::{HttpError, HttpErrorKind};

use super::health::Resting;

/// Most of a store's message that is repeated, in characters.
const MAX_MESSAGE: usize = 200;

/// An answer that will not change when asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// As `NoSuchBucket`; empty where the answer has none, as that to a HEAD.
    pub(super) code: String,
    message: String,
}

impl Refusal {
    /// From the answer's XML.
    pub(super) fn new(status: u16, text: &str) -> Self {
        let element = |name: &str| {
            let inner = text.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>"))?.0;
            Some(inner.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect::<String>())
        };
        let take = |name| element(name).unwrap_or_default();
        Refusal { status, code: take("Code"), message: take("Message") }
    }

    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 && self.code != "NoSuchBucket"
    }

    fn is_full(&self) -> bool {
        let codes = ["XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"];
        self.status == 507 || codes.contains(&self.code.as_str())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3 answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl Error for Refusal {}

/// Why a request to S3 has failed for good.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store said no.
    Refused(Refusal),
    /// Nothing was asked: S3 has not answered lately.
    Resting,
    /// No answer, or none that means anything.
    Broken(io::Error),
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        let mut innermost = None;
        let mut kind = None;
        while let Some(error) = cause {
            if let Some(refusal) = error.downcast_ref::<Refusal>() {
                return Failure::Refused(refusal.clone());
            }
            if error.is::<Resting>() {
                return Failure::Resting;
            }
            if let Some(http) = error.downcast_ref::<HttpError>() {
                kind = Some(http.kind());
            }
            innermost = Some(error);
            cause = error.source();
        }
        let kind = match kind {
            Some(HttpErrorKind::Timeout) => io::ErrorKind::TimedOut,
            Some(HttpErrorKind::Connect) => io::ErrorKind::NotConnected,
            Some(HttpErrorKind::Interrupted | HttpErrorKind::Request) => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::Other,
        };
        let text = innermost.map(ToString::to_string).unwrap_or_default();
        Failure::Broken(io::Error::new(kind, text.chars().take(2 * MAX_MESSAGE).collect::<String>()))
    }
}

impl Failure {
    /// From a request that was made without `object_store`.
    pub(super) fn from_http(error: HttpError) -> Self {
        object_store::Error::Generic { store: "S3", source: Box::new(error) }.into()
    }

    /// Whether the store does not know what it is asked to do.
    pub(super) fn is_unknown_to_store(&self) -> bool {
        matches!(self, Failure::Refused(Refusal { status: 400 | 501, .. }))
    }

    /// What it means for whoever was `doing` something.
    pub(super) fn into_blob(self, doing: &'static str) -> BlobError {
        match self {
            Failure::Refused(refusal) if refusal.is_full() => {
                BlobError::Full(io::Error::new(io::ErrorKind::StorageFull, refusal))
            }
            Failure::Refused(refusal) => BlobError::Io { doing, source: io::Error::other(refusal) },
            Failure::Resting => {
                BlobError::Io { doing, source: io::Error::new(io::ErrorKind::NotConnected, Resting) }
            }
            Failure::Broken(source) => BlobError::Io { doing, source },
        }
    }

    /// Whether the same may succeed a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Failure::Broken(_))
    }

    /// Whether nobody answered in time.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Failure::Broken(error) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether it says that there is no such object.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Failure::Refused(refusal) if refusal.is_missing())
    }

    /// Whether it says that the object is there already, or is just being written.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Failure::Refused(Refusal { status: 409 | 412 | 304, .. }))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(refusal) => refusal.fmt(f),
            Failure::Resting => Resting.fmt(f),
            Failure::Broken(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_by_code_and_message_only() {
        let xml = "<?xml?><Error><Code>SignatureDoesNotMatch</Code><Message>no\nmatch</Message>\
                   <AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>x</StringToSign></Error>";
        let refusal = Refusal::new(403, xml);
        assert_eq!(refusal.to_string(), "S3 answered 403 SignatureDoesNotMatch: nomatch");
        for (status, text, want) in [
            (404, "", "S3 answered 404"),
            (507, "<Code>XMinioStorageFull</Code>", "S3 answered 507 XMinioStorageFull"),
            (400, "<Code>half", "S3 answered 400"),
        ] {
            assert_eq!(Refusal::new(status, text).to_string(), want);
        }
    }

    #[test]
    fn what_a_refusal_means() {
        let of = |status, code: &str| Failure::Refused(Refusal::new(status, &format!("<Code>{code}</Code>")));
        for (failure, missing, conflict, full) in [
            (of(404, ""), true, false, false),
            (of(404, "NoSuchKey"), true, false, false),
            (of(404, "NoSuchBucket"), false, false, false),
            (of(412, "PreconditionFailed"), false, true, false),
            (of(409, "ConditionalRequestConflict"), false, true, false),
            (of(507, ""), false, false, true),
            (of(403, "QuotaExceeded"), false, false, true),
            (of(403, "AccessDenied"), false, false, false),
        ] {
            assert_eq!(failure.is_missing(), missing, "{failure}");
            assert_eq!(failure.is_conflict(), conflict, "{failure}");
            assert!(!failure.may_pass(), "{failure}");
            let text = failure.to_string();
            let error = failure.into_blob("testing");
            assert_eq!(matches!(error, BlobError::Full(_)), full, "{text}");
        }
    }
}
