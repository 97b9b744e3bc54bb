//! Platforms, compared as in containerd.

use serde_json::Value;

use super::json;

/// Objects in a configuration whose keys are user-defined.
const FREE_FORM: &[&str] = &["Labels", "ExposedPorts", "Volumes"];

/// The values of `GOOS`, and `wasi`, which was used before Go had `wasip1`.
const GO_SYSTEMS: &str =
    "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasi wasip1 windows";
/// The values of `GOARCH`.
const GO_ARCHITECTURES: &str =
    "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm";

/// A platform such as `linux/amd64` or `linux/arm/v7`, in containerd's normal form (github.com/containerd/platforms,
/// `database.go`): `linux/aarch64` and `linux/arm64/v8` become `linux/arm64`, `linux/arm` becomes `linux/arm/v7`.
///
/// ```
/// let platform: pullgate::oci::Platform = "linux/aarch64".parse()?;
/// assert_eq!(platform.to_string(), "linux/arm64");
/// # Ok::<(), pullgate::oci::InvalidPlatform>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The architecture by its Go name, such as `amd64`.
    pub architecture: String,
    /// The variant, such as `v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// Creates a platform in normal form. An empty operating system means Linux, which every node behind a gate runs.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let lower = str::to_ascii_lowercase;
        let (os, architecture) = (lower(os), lower(architecture));
        let variant = variant.map(lower).unwrap_or_default();
        let os = match &*os {
            "" => "linux",
            "macos" => "darwin",
            other => other,
        };
        let (architecture, variant) = normal(&architecture, &variant);
        Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: (!variant.is_empty()).then(|| variant.into()),
        }
    }

    /// The platform of this machine.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    /// The platform in an image configuration (OCI image-spec, config.md). `None` if there is none, or if clients could
    /// interpret it differently.
    pub fn of_configuration(bytes: &[u8]) -> Option<Self> {
        let keys = ["architecture", "os", "variant"];
        let body = json::parse_members(bytes, &keys, FREE_FORM, &keys).ok()?;
        let text = |key| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let (os, architecture) = (text("os"), text("architecture"));
        let is_said = !os.is_empty() && !architecture.is_empty();
        is_said.then(|| Self::new(os, architecture, Some(text("variant"))))
    }

    /// Whether this platform can run images for `other`. A platform without a variant means every variant; a 32-bit ARM
    /// also runs images for older variants.
    pub fn includes(&self, other: &Self) -> bool {
        let is_alike = self.os == other.os && self.architecture == other.architecture;
        is_alike
            && match (&self.variant, &other.variant) {
                (None, _) => true,
                (Some(wanted), Some(has)) if self.architecture == "arm" => runs_on_arm(wanted, has),
                (wanted, has) => wanted == has,
            }
    }

    /// Whether Go has both names (`go tool dist list`), which are those that images have.
    pub fn is_of_go(&self) -> bool {
        let is_of = |names: &str, name: &str| names.split(' ').any(|known| known == name);
        is_of(GO_SYSTEMS, &self.os) && is_of(GO_ARCHITECTURES, &self.architecture)
    }

    /// Whether this is `unknown/unknown`, under which attestations are listed because there is nothing to run.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }
}

fn normal<'a>(architecture: &'a str, variant: &'a str) -> (&'a str, &'a str) {
    match (architecture, variant) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", _) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", _) => ("arm64", variant),
        ("armhf" | "armv7l", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel" | "armv6l", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("armv8l", _) | ("arm", "8") => ("arm", "v8"),
        _ => (architecture, variant),
    }
}

/// Whether a machine with variant `wanted` runs images for variant `has`: `v7` runs `v6`.
fn runs_on_arm(wanted: &str, has: &str) -> bool {
    let version = |variant: &str| variant.strip_prefix('v').and_then(|digits| digits.parse::<u8>().ok());
    match (version(wanted), version(has)) {
        (Some(wanted), Some(has)) => has <= wanted,
        _ => wanted == has,
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl std::str::FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let [os, architecture, variant @ ..] = &*parts else { return Err(InvalidPlatform) };
        let is_part = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic());
        if variant.len() > 1 || !parts.iter().all(is_part) {
            return Err(InvalidPlatform);
        }
        Ok(Self::new(os, architecture, variant.first().copied()))
    }
}

/// A string that is not a platform.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a platform is os/architecture or os/architecture/variant, such as linux/amd64")]
pub struct InvalidPlatform;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_platforms_have_one_form() {
        for (text, wanted) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/x86-64/v2", "linux/amd64/v2"),
            ("linux/i386", "linux/386"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/armv7l", "linux/arm/v7"),
            ("linux/armv6l", "linux/arm/v6"),
            ("linux/armv8l", "linux/arm/v8"),
            ("macos/arm64", "darwin/arm64"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), wanted, "{text}");
        }
        for text in ["linux", "linux/", "/amd64", "linux/arm/v7/x", "", "linux/amd64 linux/arm64"] {
            assert_eq!(text.parse::<Platform>(), Err(InvalidPlatform), "{text}");
        }
        assert_eq!(Platform::new("", "amd64", None).to_string(), "linux/amd64");
        for (text, is_known) in
            [("linux/X86_64", true), ("linux/armv7l", true), ("linux/x64", false), ("lunix/amd64", false)]
        {
            assert_eq!(text.parse::<Platform>().unwrap().is_of_go(), is_known, "{text}");
        }
    }

    #[test]
    fn platforms_are_read_from_configurations() {
        for (text, wanted) in [
            (r#"{"os":"linux","architecture":"aarch64","rootfs":{}}"#, Some("linux/arm64")),
            (r#"{"os":"linux","architecture":"arm","variant":"v6"}"#, Some("linux/arm/v6")),
            (r#"{"os":"linux","architecture":"amd64","config":{"Labels":{"OS":"x"}}}"#, Some("linux/amd64")),
            (r#"{"os":"linux","architecture":"s390x","Architecture":"amd64"}"#, None),
            (r#"{"os":"linux"}"#, None),
            (r#"{"architecture":"amd64"}"#, None),
            ("{}", None),
            ("[]", None),
            ("\u{1f}\u{8b}", None),
        ] {
            let platform = Platform::of_configuration(text.as_bytes());
            assert_eq!(platform.map(|platform| platform.to_string()).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn platforms_include_compatible_variants() {
        for (wanted, has, included) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm/v7", "linux/arm/new", false),
            ("linux/arm/new", "linux/arm/new", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64/v3", "linux/amd64", false),
            ("linux/arm64", "linux/arm", false),
            ("linux/amd64", "windows/amd64", false),
        ] {
            let platform = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(platform(wanted).includes(&platform(has)), included, "{wanted} {has}");
        }
    }
}
