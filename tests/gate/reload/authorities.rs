//! A registry whose certificate authority is renewed under the same name.

use pullgate::sample::image::{Image, Layer, noise};

use super::{LAYER, Reloading, TOKEN};
use crate::harness::{ALLOW_ALL, TestGate};
use crate::support::{TestCa, TestRegistry};

#[tokio::test]
async fn a_renewed_authority_is_in_use_after_a_reload() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let registry = TestRegistry::start_tls(&new).await;
    registry.push("library/app", Some("1"), &Image::linux_amd64().layer(Layer::of(LAYER, noise(1000, 1))).build());
    let made = TestGate::new(&registry, ALLOW_ALL).upstream("ca = \"registry-ca.crt\"").admin_token(TOKEN);
    let gate = made.file("registry-ca.crt", &old.pem).start().await;
    let text = std::fs::read_to_string(gate.file("pullgate.toml")).expect("a configuration");
    let on = Reloading { registry, gate, text };
    let renew = |pem: &str| std::fs::write(on.gate.file("registry-ca.crt"), pem).expect("a file");
    assert_eq!(on.pull("registry.test").await, 503, "its authority is not known yet");
    renew(&format!("{}{}", old.pem, new.pem));
    let changed = serde_json::json!({"reloaded": true, "changed": ["upstream registry.test"]});
    assert_eq!(on.reload(&on.text).await.json(), changed);
    assert_eq!(on.pull("registry.test").await, 200);
    assert_eq!(on.reload(&on.text).await.json(), serde_json::json!({"reloaded": true}));
    renew("junk");
    let refused = on.reload(&on.text).await;
    assert!(refused.status == 422 && refused.text().contains("registry-ca.crt"), "{}", refused.text());
    assert_eq!((on.checked(), on.pull("registry.test").await), (Some(78), 200), "the previous one is in use");
    on.gate.stop().await;
}
