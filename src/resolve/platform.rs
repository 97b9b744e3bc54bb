//! The platforms that configurations of images state.

use super::{ResolveError, Resolver};
use crate::oci::{Content, ImageName, Manifest, Platform};
use crate::upstream::{self, Upstream};

/// The maximum size of a configuration that is read for its platform, in bytes.
const MAX_CONFIG: usize = 1024 * 1024;

impl Resolver {
    /// The platform that the configuration of an image states; `None` for a manifest without one, such as an artifact
    /// or an index.
    ///
    /// # Errors
    /// The configuration cannot be read now. A configuration that the upstream does not have is not an error; it states
    /// no platform.
    pub async fn platform(
        &self,
        upstream: &Upstream,
        name: &ImageName,
        manifest: &Manifest,
    ) -> Result<Option<Platform>, ResolveError> {
        let Content::Image { config, .. } = &manifest.content else { return Ok(None) };
        if config.size > MAX_CONFIG as u64 {
            return Ok(None);
        }
        if let Some(known) = self.inner.platforms.get(&config.digest) {
            return Ok(known);
        }
        let bytes = match self.inner.cache.peek(config.digest, MAX_CONFIG).await {
            Some(bytes) => bytes,
            None => match upstream.blob_bytes(&name.repository, &config.digest, MAX_CONFIG).await {
                Ok(bytes) => bytes,
                Err(upstream::Error::NotFound { .. } | upstream::Error::TooLarge(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        let platform = Platform::of_configuration(&bytes);
        self.inner.platforms.insert(config.digest, platform.clone());
        Ok(platform)
    }

    /// As [`platform`](Self::platform), without asking the upstream; `None` also if the configuration is not in the
    /// cache.
    pub async fn known_platform(&self, manifest: &Manifest) -> Option<Platform> {
        let Content::Image { config, .. } = &manifest.content else { return None };
        match self.inner.platforms.get(&config.digest) {
            Some(known) => known,
            None => Platform::of_configuration(&self.inner.cache.peek(config.digest, MAX_CONFIG).await?),
        }
    }
}
