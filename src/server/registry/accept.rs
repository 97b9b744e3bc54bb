//! Clients that take no index.
//!
//! Registries answer such a client's tag with one image of the index, and so does the gate. What a client accepts never
//! changes what an upstream is asked for, and the image is judged as any image is.

use http::header::{self, HeaderMap};

use crate::gate::{Answer, Gate, GateError, GateRequest};
use crate::oci::{Endpoint, Reference, media_type};

/// The answer to a request, and for a client that takes no index the answer for an image of it.
pub(super) async fn answer(gate: &Gate, request: &GateRequest, headers: &HeaderMap) -> Result<Answer, GateError> {
    let answer = gate.handle(request).await?;
    let Answer::Manifest { manifest, stale, .. } = &answer else { return Ok(answer) };
    let Endpoint::Manifest { name, reference: Reference::Tag(_) } = &request.endpoint else { return Ok(answer) };
    if manifest.children().is_empty() || !takes_images_alone(headers) {
        return Ok(answer);
    }
    let Some(child) = gate.default_child(manifest) else { return Ok(answer) };
    let mut image = request.clone();
    image.endpoint = Endpoint::Manifest { name: name.clone(), reference: Reference::Digest(child) };
    // The key is that of the tag, and another client of the tag takes the index.
    image.key = None;
    match gate.handle(&image).await? {
        Answer::Manifest { manifest, permit, .. } => Ok(Answer::Manifest { manifest, permit, stale: stale.clone() }),
        other => Ok(other),
    }
}

/// Whether `Accept` names a manifest of one image, and no index by name or by wildcard (RFC 9110 §12.5.1).
pub(super) fn takes_images_alone(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<String> =
        values.flat_map(|value| value.split(',')).filter(|one| !is_refused(one)).map(media_type::essence).collect();
    let takes = |is_wanted: fn(&str) -> bool| accepted.iter().any(|one| is_wanted(one));
    takes(|one| matches!(one, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST))
        && !takes(|one| media_type::is_index(one) || matches!(one, "*/*" | "application/*"))
}

/// A weight of nothing, `q=0.0`, means that the type is not wanted.
fn is_refused(one: &str) -> bool {
    let weight = one
        .split(';')
        .skip(1)
        .find_map(|parameter| parameter.trim().to_ascii_lowercase().strip_prefix("q=").map(str::to_owned));
    weight.is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_images_alone() {
        let (image, docker, index) = (media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST, media_type::OCI_INDEX);
        for (accept, alone) in [
            (vec![], false),
            (vec![""], false),
            (vec!["*/*"], false),
            (vec!["application/json"], false),
            (vec![media_type::DOCKER_SCHEMA1], false),
            (vec![image], true),
            (vec![&*format!("{image}, {docker};q=0.5")], true),
            (vec![&*format!("{image},{index}")], false),
            (vec![image, index], false),
            (vec![&*format!("{image}, */*;q=0.1")], false),
            (vec![&*format!("{docker}, application/*")], false),
            (vec![&*format!("{docker}, */*;q=0")], true),
            (vec![&*format!("{docker};q=0.0")], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in &accept {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            assert_eq!(takes_images_alone(&headers), alone, "{accept:?}");
        }
    }
}
