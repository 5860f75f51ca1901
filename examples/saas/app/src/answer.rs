//! What an endpoint says when it does not do the work, and how a payload is read.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::store;

/// Says that the answer was kept from an earlier, equal request.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Why a request was not carried out. The status decides what Lanekeeper does next.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// 422, permanent: the payload will not get better by trying again.
    #[error("{0}")]
    Malformed(String),
    /// 401, permanent: the signature is missing or wrong.
    #[error("{0}")]
    Unsigned(String),
    /// 410, permanent: the receiver has closed this endpoint.
    #[error("{0}")]
    Gone(String),
    /// 429 with `Retry-After`: held back without spending a try.
    #[error("too many requests, come back in {seconds} s")]
    Throttled {
        /// Whole seconds until there is room again.
        seconds: u64,
    },
    /// 500, a transient failure: worth another try.
    #[error("{0}")]
    Failed(String),
    /// 500: the database or the disk failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unsigned(_) => StatusCode::UNAUTHORIZED,
            Self::Gone(_) => StatusCode::GONE,
            Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed(_) | Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response =
            (self.status(), Json(serde_json::json!({"error": self.to_string()}))).into_response();
        if let Self::Throttled { seconds } = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer that is stored beside the effect and given again, byte for byte, to a repeated request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The JSON document.
    pub result: String,
    /// It was there already.
    pub replayed: bool,
}

impl IntoResponse for Stored {
    fn into_response(self) -> Response {
        let json = [(axum::http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (json, self.result).into_response();
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Reads a JSON payload; what is wrong with it is told in one sentence.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn payload<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::Malformed(format!("malformed payload: {error}")))
}

/// A request header as text.
///
/// # Errors
/// [`Refusal::Malformed`] when it is missing, empty or not text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refusal> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Refusal::Malformed(format!("header {name} is missing")))
}

/// A text that may become part of a file name or a key: letters, digits, `-` and `_`, at most 64.
///
/// # Errors
/// [`Refusal::Malformed`], naming the field.
pub fn plain_name<'a>(field: &str, value: &'a str) -> Result<&'a str, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if value.is_empty() || value.len() > 64 || !value.chars().all(plain) {
        let what = "must be 1 to 64 letters, digits, '-' or '_'";
        return Err(Refusal::Malformed(format!("{field} {what}, not {value:?}")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_climb_out_of_a_folder_are_refused() {
        assert!(plain_name("imageId", "img-12_a").is_ok());
        for bad in ["", "../etc", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(plain_name("imageId", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_throttled_request_is_told_when_to_return() {
        let response = Refusal::Throttled { seconds: 3 }.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }
}
