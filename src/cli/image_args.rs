//! The arguments of commands that name images and the scope whose rules apply.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::CommandError;

/// Whose rules apply.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ScopeArgs {
    /// The Kubernetes namespace, or other scope, whose rules apply.
    #[arg(long, short, default_value = "", value_name = "NAMESPACE", hide_default_value = true)]
    pub(super) namespace: String,
}

/// The images, as arguments and in a file.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ImageArgs {
    /// The images: docker.io/library/nginx:1.27, by digest, or short names.
    #[arg(required_unless_present = "file", value_name = "IMAGE")]
    images: Vec<String>,
    /// A file with more images, one on each line; `-` for standard input. Empty lines and lines that begin with # are
    /// skipped.
    #[arg(long = "images", id = "file", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ImageArgs {
    /// All images, those of the file last.
    ///
    /// # Errors
    /// [`CommandError::Usage`], if the file cannot be read or there are no images.
    pub(super) fn read(&self) -> Result<Vec<String>, CommandError> {
        let mut images = self.images.clone();
        if let Some(file) = &self.file {
            let failed = |error: std::io::Error| format!("{}: cannot read the images: {error}", file.display());
            let text = read(file).map_err(|error| CommandError::Usage(failed(error)))?;
            // Editors of Windows begin files with a byte order mark.
            let lines = text
                .trim_start_matches('\u{feff}')
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            images.extend(lines.map(str::to_owned));
        }
        if images.is_empty() { Err(CommandError::Usage("there are no images".to_owned())) } else { Ok(images) }
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_file_follow_the_arguments() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# base images\n\n  debian:12\nredis\r\n").unwrap();
        let args = ImageArgs { images: vec!["nginx".to_owned()], file: Some(file.path().to_owned()) };
        assert_eq!(args.read().unwrap(), ["nginx", "debian:12", "redis"]);
        std::fs::write(file.path(), "\u{feff}debian:12\r\n").unwrap();
        assert_eq!(ImageArgs { images: Vec::new(), ..args }.read().unwrap(), ["debian:12"]);
        let none = ImageArgs { images: Vec::new(), file: Some("/does/not/exist".into()) };
        assert!(matches!(none.read(), Err(CommandError::Usage(why)) if why.contains("/does/not/exist")));
    }
}
