//! Calls of the Kubernetes API: bounded in time, with failures told apart as far as it matters.

use std::time::Duration;

/// Longest time of a call.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a call did not do what it was for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The operator has no right to it.
    #[error("the operator has no right to it")]
    Forbidden,
    /// Anything else: trying again may help.
    #[error("{0}")]
    Other(String),
}

/// Waits for a call, for a while.
///
/// # Errors
/// [`Failure`].
pub async fn patiently<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Failure::Forbidden),
        Ok(Err(error)) => Err(Failure::Other(describe(&error))),
        Err(_) => {
            Err(Failure::Other(format!("the Kubernetes API gave no answer in {} s", PATIENCE.as_secs())))
        }
    }
}

/// The error with its causes, which kube leaves out.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
