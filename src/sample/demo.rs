//! The images of the demo: small versions of the images in IBM's tutorial, and one private image.

use super::image::{self, Built, Image, Layer, Tree};
use crate::oci::Platform;

/// An image of the demo and its expected properties.
#[derive(Clone, Debug)]
pub struct DemoImage {
    /// Its repository in the sample registry.
    pub repository: &'static str,
    /// Its tag.
    pub tag: &'static str,
    /// Whether the demo signs it.
    pub signed: bool,
    /// Whether pulling it requires credentials.
    pub private: bool,
    /// The contents of its package database.
    pub packages: &'static [Package],
    /// An index for linux/amd64 and linux/arm64.
    pub built: Built,
}

impl DemoImage {
    /// The packages that have a fixed version, which the demo's advisories cover.
    pub fn outdated(&self) -> impl Iterator<Item = &'static Package> {
        self.packages.iter().filter(|package| package.fixed.is_some())
    }
}

/// An installed Debian package.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Package {
    /// The package name.
    pub name: &'static str,
    /// The source package, which advisories name.
    pub source: &'static str,
    /// The installed version.
    pub version: &'static str,
    /// The version that fixes the demo's advisory for the package; `None` if there is no advisory.
    pub fixed: Option<&'static str>,
}

const fn package(name: &'static str, source: &'static str, version: &'static str) -> Package {
    Package { name, source, version, fixed: None }
}

impl Package {
    const fn fixed_in(self, version: &'static str) -> Self {
        Self { fixed: Some(version), ..self }
    }
}

/// The images, in the order of the tutorial's image list:
///
/// | image | signed | issues |
/// |---|---|---|
/// | `library/hello-world:latest` | no | none |
/// | `library/nginx:latest` | yes | three |
/// | `library/tomcat:latest` | no | one |
/// | `library/tomcat:v2` | yes | none |
/// | `team/private:v1` | no | none; private |
///
/// Together they cover all combinations of signed or not and vulnerable or not.
pub fn demo_images() -> Vec<DemoImage> {
    vec![
        demo_image("library/hello-world", "latest", false, HELLO_WORLD),
        demo_image("library/nginx", "latest", true, NGINX),
        demo_image("library/tomcat", "latest", false, TOMCAT),
        demo_image("library/tomcat", "v2", true, TOMCAT_V2),
        DemoImage { private: true, ..demo_image("team/private", "v1", false, PRIVATE) },
    ]
}

const BASE: Package = package("base-files", "base-files", "12.4+deb12u5");
const SSL: Package = package("libssl3", "openssl", "3.0.13-1~deb12u1");
const OLD_SSL: Package = package("libssl3", "openssl", "3.0.11-1~deb12u1").fixed_in("3.0.13-1~deb12u1");
const OLD_CURL: Package = package("libcurl4", "curl", "7.88.1-10+deb12u3").fixed_in("7.88.1-10+deb12u5");
const OLD_EXPAT: Package = package("libexpat1", "expat", "2.5.0-1").fixed_in("2.5.0-1+deb12u1");
const ZLIB: Package = package("zlib1g", "zlib", "1:1.2.13.dfsg-1");

const HELLO_WORLD: &[Package] = &[BASE];
const NGINX: &[Package] = &[BASE, OLD_SSL, OLD_CURL, OLD_EXPAT, ZLIB];
const TOMCAT: &[Package] = &[BASE, OLD_SSL, ZLIB];
const TOMCAT_V2: &[Package] = &[BASE, SSL, ZLIB];
const PRIVATE: &[Package] = &[BASE, SSL];

fn demo_image(repository: &'static str, tag: &'static str, signed: bool, packages: &'static [Package]) -> DemoImage {
    let name = format!("{repository}:{tag}");
    let platforms = ["amd64", "arm64"].map(|architecture| platform_image(&name, architecture, packages));
    DemoImage { repository, tag, signed, private: false, packages, built: image::index(&platforms) }
}

/// Three layers, as in a typical build: the base, the packages, the application.
fn platform_image(name: &str, architecture: &str, packages: &[Package]) -> Built {
    let base = Tree::new()
        .file("usr/lib/os-release", OS_RELEASE)
        .symlink("etc/os-release", "../usr/lib/os-release")
        .file("etc/debian_version", "12.5\n")
        .file("var/lib/dpkg/status", status(&packages[..1], architecture));
    let installed = Tree::new().file("var/lib/dpkg/status", status(packages, architecture));
    let application = Tree::new().file("app/README", format!("{name} for linux/{architecture}\nIt does nothing.\n"));
    Image::new(Platform { os: "linux".into(), architecture: architecture.into(), variant: None })
        .layer(Layer::gzip(&base).created_by("ADD rootfs.tar.xz / # buildkit"))
        .layer(Layer::gzip(&installed).created_by("RUN apt-get install # buildkit"))
        .layer(Layer::gzip(&application).created_by("COPY app /app # buildkit"))
        .command(&["/app/start"])
        .build()
}

const OS_RELEASE: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n\
     VERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";

/// The package database in dpkg's format (deb822).
fn status(packages: &[Package], architecture: &str) -> String {
    let paragraph = |&Package { name, source, version, .. }: &Package| {
        let source = if source == name { String::new() } else { format!("Source: {source}\n") };
        format!(
            "Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: misc\n\
             Maintainer: Debian <debian@lists.debian.org>\nArchitecture: {architecture}\n{source}Version: {version}\n\
             Description: {name}\n\n"
        )
    };
    packages.iter().map(paragraph).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Content, Manifest};

    #[test]
    fn demo_images_cover_all_combinations_of_trust_and_va() {
        let images = demo_images();
        for (signed, vulnerable) in [(false, false), (false, true), (true, false), (true, true)] {
            let fits = |i: &DemoImage| i.signed == signed && (i.outdated().count() > 0) == vulnerable && !i.private;
            assert!(images.iter().any(fits), "signed {signed}, vulnerable {vulnerable}");
        }
    }

    #[test]
    fn demo_images_are_valid_and_reproducible() {
        for (image, again) in demo_images().into_iter().zip(demo_images()) {
            assert_eq!(image.built.root, again.built.root);
            for document in &image.built.manifests {
                let manifest = Manifest::parse(document.bytes.clone(), Some(&document.media_type)).unwrap();
                let Content::Image { layers, .. } = &manifest.content else { continue };
                assert_eq!(layers.len(), 3);
                assert!(manifest.descriptors().all(|d| image.built.blobs.iter().any(|(known, _)| *known == d.digest)));
            }
        }
    }
}
