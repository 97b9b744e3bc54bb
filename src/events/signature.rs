//! Signatures of events, as Standard Webhooks 1.0 defines them (standardwebhooks.com, "Signature scheme"), so that
//! receivers can verify them with an existing library.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The fewest bytes of a secret.
const SHORTEST: usize = 16;

/// A secret that signs events.
pub(super) struct EventSecret(hmac::Key);

impl EventSecret {
    /// Reads the secret from the text of a file, without surrounding white space: `whsec_` and base64, or any other
    /// text, which is used as it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let bytes = match text.strip_prefix("whsec_") {
            Some(encoded) => BASE64_STANDARD.decode(encoded).map_err(|_| "the text after whsec_ is not base64")?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() < SHORTEST {
            return Err("the secret has fewer than 16 bytes");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, second: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{second}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the reference libraries (standard-webhooks/libraries, `TestWebhookSign`).
    #[test]
    fn signature_equals_that_of_the_reference_libraries() {
        let secret = EventSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(EventSecret::parse("whsec_!").is_err());
        assert!(EventSecret::parse("short").is_err());
        assert!(EventSecret::parse("a text of sixteen").is_ok());
    }
}
