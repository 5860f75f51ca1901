//! Standard Webhooks signatures: what a careful receiver checks before it believes a request.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::answer::{Refusal, header};

/// How far the sender's clock may be off, and how old a request may be.
const TOLERANCE_MS: u64 = 5 * 60 * 1000;

/// A secret shared with the sender.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads `whsec_<base64>`, the form of the Standard Webhooks specification.
    ///
    /// # Errors
    /// One sentence when it is not that.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded =
            text.trim().strip_prefix("whsec_").ok_or("the webhook secret must start with whsec_")?;
        let bytes =
            STANDARD.decode(encoded).map_err(|error| format!("the webhook secret is not base64: {error}"))?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The signature of one message, as it stands in `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let tag = hmac::sign(&self.0, &signed(id, timestamp, body));
        format!("v1,{}", STANDARD.encode(tag))
    }

    /// Checks the three headers against the body.
    ///
    /// # Errors
    /// [`Refusal::Unsigned`] says which of them does not hold.
    pub fn check(&self, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Result<(), Refusal> {
        let unsigned = |what: &str| Refusal::Unsigned(what.to_owned());
        let field = |name| header(headers, name).map_err(|error| Refusal::Unsigned(error.to_string()));
        let id = field("webhook-id")?;
        let timestamp: u64 =
            field("webhook-timestamp")?.parse().map_err(|_| unsigned("webhook-timestamp is not a number"))?;
        if now_ms.abs_diff(timestamp.saturating_mul(1000)) > TOLERANCE_MS {
            return Err(unsigned("webhook-timestamp is more than 5 minutes off"));
        }
        let message = signed(id, timestamp, body);
        // Several signatures may stand there while a secret is rotated: one that holds is enough.
        let holds = |signature: &str| {
            let encoded = signature.strip_prefix("v1,").unwrap_or_default();
            STANDARD.decode(encoded).is_ok_and(|tag| hmac::verify(&self.0, &message, &tag).is_ok())
        };
        if field("webhook-signature")?.split(' ').any(holds) {
            Ok(())
        } else {
            Err(unsigned("webhook-signature does not match"))
        }
    }
}

fn signed(id: &str, timestamp: u64, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(id: &str, timestamp: u64, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_str(id).unwrap());
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        headers.insert("webhook-signature", HeaderValue::from_str(signature).unwrap());
        headers
    }

    /// The example of the Standard Webhooks specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";

    #[test]
    fn the_example_of_the_specification_holds() {
        let secret = Secret::parse(SECRET).unwrap();
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(secret.sign(ID, 1_614_265_330, BODY), signature);
        let rotated = format!("v1,AAAA {signature}");
        secret.check(&headers(ID, 1_614_265_330, &rotated), BODY, 1_614_265_330_000).unwrap();
    }

    #[test]
    fn a_changed_body_an_old_message_and_a_missing_header_are_refused() {
        let secret = Secret::parse(SECRET).unwrap();
        let good = headers(ID, 1_614_265_330, &secret.sign(ID, 1_614_265_330, BODY));
        let now = 1_614_265_330_000;
        assert!(secret.check(&good, b"{}", now).is_err());
        assert!(secret.check(&good, BODY, now + TOLERANCE_MS + 1).is_err());
        assert!(secret.check(&HeaderMap::new(), BODY, now).is_err());
    }
}
