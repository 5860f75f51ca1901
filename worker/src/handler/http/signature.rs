//! Standard Webhooks signatures: HMAC-SHA256 over `id.timestamp.payload`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;

/// A mounted Secret changes without a restart; it is read again after this long.
const REREAD: Duration = Duration::from_secs(10);

/// The keys a signature is made with: the present one and, during a rotation, the next.
pub(super) type Secrets = Arc<Vec<hmac::Key>>;

/// Reads the secret of a handler from its file and remembers it for a while.
pub(super) struct Signer {
    file: PathBuf,
    cached: Mutex<Option<(Instant, Secrets)>>,
}

impl Signer {
    /// The signer whose secret stands in `file`, one per line.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, cached: Mutex::new(None) }
    }

    /// The keys, at most ten seconds old.
    ///
    /// # Errors
    /// When the file is missing, empty or holds a `whsec_` that is not base64.
    pub(super) async fn secrets(&self) -> Result<Secrets, String> {
        if let Some((read, secrets)) = &*self.cached.lock().unwrap_or_else(PoisonError::into_inner)
            && read.elapsed() < REREAD
        {
            return Ok(Arc::clone(secrets));
        }
        let text = tokio::fs::read_to_string(&self.file)
            .await
            .map_err(|e| format!("the signing secret {} cannot be read: {e}", self.name()))?;
        let secrets =
            Arc::new(parse(&text).map_err(|why| format!("the signing secret {} {why}", self.name()))?);
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&secrets)));
        Ok(secrets)
    }

    /// `secret/key`, as the policy names it.
    fn name(&self) -> String {
        let mut parts: Vec<_> = self.file.iter().rev().take(2).map(|p| p.to_string_lossy()).collect();
        parts.reverse();
        parts.join("/")
    }
}

/// One secret per line: `whsec_` and base64, or the bytes as they are.
fn parse(text: &str) -> Result<Vec<hmac::Key>, &'static str> {
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let bytes = match line.strip_prefix("whsec_") {
            Some(encoded) => BASE64.decode(encoded).map_err(|_| "starts with whsec_ but is not base64")?,
            None => line.as_bytes().to_vec(),
        };
        keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
    }
    if keys.is_empty() { Err("is empty") } else { Ok(keys) }
}

/// The value of `webhook-signature`: one `v1,…` per key.
pub(super) fn sign(secrets: &Secrets, id: &str, timestamp: &str, payload: &[u8]) -> String {
    let mut out = String::new();
    for key in secrets.iter() {
        let mut mac = hmac::Context::with_key(key);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", payload] {
            mac.update(part);
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str("v1,");
        BASE64.encode_string(mac.sign(), &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_specifications_example_verifies() {
        let secrets = Arc::new(parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap());
        let signature =
            sign(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_lines_sign_twice_for_rotation() {
        let secrets = Arc::new(parse("old-secret\nnew-secret\n").unwrap());
        assert_eq!(sign(&secrets, "a", "1", b"x").split(' ').count(), 2);
    }

    #[test]
    fn unusable_secrets_say_why() {
        assert!(parse("whsec_***").unwrap_err().contains("base64"));
        assert!(parse(" \n").unwrap_err().contains("empty"));
    }

    #[tokio::test]
    async fn a_missing_file_is_named_as_the_policy_names_it() {
        let why = Signer::new("/nonexistent/mailer/hmac".into()).secrets().await.unwrap_err();
        assert!(why.contains("mailer/hmac") && !why.contains("nonexistent"), "{why}");
    }
}
