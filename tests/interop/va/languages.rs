//! Packages of programming languages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Lab, distinct, sorted, write};

const NAME: [&str; 2] = ["name", "version"];

/// Python packages in an application's directory, in a virtual environment, as an egg in a directory and in a file.
pub(super) fn python(lab: &Lab) -> PathBuf {
    let root = lab.new_dir("python");
    let setup = "from setuptools import setup
setup(name='Odd.Name_x', version='1.0+local.1', py_modules=['odd'], classifiers=['License :: OSI Approved :: MIT License'])
";
    write(&root.join("src/setup.py"), setup);
    write(&root.join("src/odd.py"), "");
    let script = "export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_WARN_CONFLICTS=1
pip install --quiet --target srv/app django==3.2.0 requests==2.19.0 jinja2==2.10 ruamel.yaml==0.17.21 Flask==1.0
python3 -m venv --copies opt/venv
opt/venv/bin/pip install --quiet setuptools==69.5.1 urllib3==1.25.8 zope.interface >&2
cd src
../opt/venv/bin/python -W ignore setup.py --quiet install >&2
../opt/venv/bin/python -W ignore setup.py --quiet bdist_egg >&2
mkdir -p ../srv/eggs; mv dist/*.egg ../srv/eggs/
cd ..; rm -r src";
    lab.shell(&root, script);
    root
}

/// What pip lists in each directory that has metadata of packages.
pub(super) fn pip_list(lab: &Lab, root: &Path) -> BTreeSet<String> {
    let script = r#"find . \( -name '*.dist-info' -o -name '*.egg-info' -o -name '*.egg' \) -printf '%h\n' | sort -u |
while read -r directory; do pip list --disable-pip-version-check --path "$directory" --format json; echo; done"#;
    let lists = lab.shell(root, script);
    let lists = lists.lines().filter(|line| !line.is_empty()).map(|list| {
        let list: Vec<serde_json::Value> = serde_json::from_str(list).expect("a list of pip");
        list.into_iter().map(|package| {
            format!("{} {}", package["name"].as_str().expect("a name"), package["version"].as_str().expect("a version"))
        })
    });
    lists.flat_map(Iterator::collect::<Vec<_>>).collect()
}

#[test]
fn python_packages_are_those_of_pip() {
    let lab = Lab::new();
    let root = python(&lab);
    let expected = pip_list(&lab, &root);
    assert!(expected.iter().any(|row| row.starts_with("Odd.Name")), "{expected:?}");
    let scan = lab.scan("python", &[&root]);
    scan.assert_complete();
    assert_eq!(distinct(scan.rows("pypi", &NAME)), expected);
}

/// Scoped and nested packages, an alias, and packages that are installed globally.
#[test]
fn npm_packages_are_those_of_npm() {
    let lab = Lab::new();
    let root = lab.new_dir("npm");
    write(&root.join("app/package.json"), r#"{"name": "app", "version": "1.0.0"}"#);
    let script = "npm install --silent --ignore-scripts --prefix app @babel/core@7.20.2 express@4.17.0 debug@2.6.8 \
        @types/node@18 old-lodash@npm:lodash@3.10.1 >&2
npm install --silent --global --prefix usr/local typescript@4.9 >&2
npm ls --prefix app --all --parseable --long || true
npm ls --prefix usr/local --global --all --parseable --long || true";
    let listed = lab.shell(&root, script);
    // `PATH:NAME@VERSION`, with more for some packages, or `PATH:ALIAS@npm:NAME@VERSION`.
    let row = |line: &str| {
        let (_, stated) = line.split_once(':').filter(|(path, _)| path.contains("node_modules/"))?;
        let own = stated.split_once("@npm:").map_or(stated, |(_, own)| own);
        own.split(':').next()?.rsplit_once('@').map(|(name, version)| format!("{name} {version}"))
    };
    let expected: BTreeSet<String> = listed.lines().filter_map(row).chain(["app 1.0.0".to_owned()]).collect();
    assert!(expected.len() > 60, "{listed}");
    let scan = lab.scan("npm", &[&root]);
    scan.assert_complete();
    assert_eq!(distinct(scan.rows("npm", &NAME)), expected);
}

/// A Go program with modules that have known vulnerabilities, and a replaced module; compiled in several ways.
pub(super) fn go(lab: &Lab) -> PathBuf {
    let source = lab.new_dir("go-source");
    let module = "module example.test/team/app

go 1.20

require (
\texample.test/local v1.2.3
\tgolang.org/x/net v0.7.0
\tgolang.org/x/text v0.3.7
)

replace example.test/local => ./local
";
    let main = "package main

import (
\t\"example.test/local\"
\t\"golang.org/x/net/html\"
\t\"golang.org/x/text/language\"
)

func main() { println(html.EscapeString(local.Name), language.English.String()) }
";
    write(&source.join("go.mod"), module);
    write(&source.join("main.go"), main);
    write(&source.join("local/go.mod"), "module example.test/local\n\ngo 1.20\n");
    write(&source.join("local/local.go"), "package local\n\nvar Name = \"x\"\n");
    let root = lab.new_dir("go");
    let script = format!(
        "go mod tidy 2>&1
go build -ldflags='-X main.version=v1.2.3' -o '{bin}/plain' .
go build -ldflags='-s -w' -o '{bin}/stripped' .
go build -buildmode=pie -o '{bin}/pie' .
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o '{bin}/static' .",
        bin = root.join("usr/bin").display()
    );
    lab.shell(&source, &script);
    root
}

#[test]
fn go_modules_are_those_of_go_version() {
    let lab = Lab::new();
    let root = go(&lab);
    let scan = lab.scan("go", &[&root]);
    scan.assert_complete();
    let mut expected = Vec::new();
    let bin = root.join("usr/bin");
    for file in ["pie", "plain", "static", "stripped"] {
        let listed = lab.shell(&bin, &format!("go version -m {file}"));
        let mut modules: Vec<String> = Vec::new();
        let mut lines = listed.lines();
        let version = lines.next().and_then(|line| line.rsplit("go").next()).expect("a version");
        modules.push(format!("stdlib v{version}"));
        for line in lines {
            let fields: Vec<&str> = line.trim().split('\t').collect();
            match fields[..] {
                ["mod" | "dep", name, version, ..] => modules.push(format!("{name} {version}")),
                ["=>", name, version, ..] => *modules.last_mut().expect("a module") = format!("{name} {version}"),
                _ => {}
            }
        }
        expected.extend(modules.into_iter().map(|module| format!("usr/bin/{file} {}", module.replace("(devel)", ""))));
    }
    // The version of the main module is that of the linker's flags, if they state one.
    let main = "usr/bin/plain example.test/team/app ";
    let stated = |row: String| if row == main { format!("{main}v1.2.3") } else { row };
    let expected: Vec<String> = expected.into_iter().map(stated).collect();
    assert!(expected.len() > 16, "{expected:?}");
    assert_eq!(scan.rows("go", &["path", "name", "version"]), sorted(expected));
}

#[test]
fn rust_crates_are_those_that_cargo_compiled_in() {
    let lab = Lab::new();
    let source = lab.new_dir("rust-source");
    let manifest = "[package]
name = \"app\"
version = \"0.3.0\"
edition = \"2021\"

[dependencies]
itoa = \"=1.0.9\"
smallvec = \"=1.6.0\"

[build-dependencies]
cfg-if = \"=1.0.0\"
";
    let main =
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(smallvec::SmallVec::<[u8; 4]>::new().len())); }\n";
    write(&source.join("Cargo.toml"), manifest);
    write(&source.join("build.rs"), "fn main() {}\n");
    write(&source.join("src/main.rs"), main);
    let script =
        "cargo auditable build --quiet --target-dir built >&2; cp built/debug/app built/stripped; strip built/stripped
mkdir -p root/usr/bin; cp built/debug/app built/stripped root/usr/bin; cargo tree --edges normal --prefix none";
    let listed = lab.shell(&source, script);
    let crates = listed.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ").replace(" v", " "));
    let files = crates.flat_map(|name| ["app", "stripped"].map(|file| format!("usr/bin/{file} {name}")));
    let scan = lab.scan("rust", &[&source.join("root")]);
    scan.assert_complete();
    assert_eq!(scan.rows("cargo", &["path", "name", "version"]), sorted(files));
}

/// Several versions of a gem, one before its release, and one for a platform.
#[test]
fn gems_are_those_of_gem() {
    let lab = Lab::new();
    let root = lab.new_dir("gems");
    let source = lab.new_dir("gem-source");
    write(&source.join("lib.rb"), "");
    let gems = [
        ("rack", "2.0.1", ""),
        ("rack", "2.2.3.pre1", ""),
        ("my-gem_x", "0.0.1.2", ""),
        ("native", "1.2", "x86_64-linux"),
    ];
    for (name, version, platform) in gems {
        let platform = if platform.is_empty() { String::new() } else { format!("s.platform = '{platform}'") };
        let specification = format!(
            "Gem::Specification.new do |s|
  s.name = '{name}'; s.version = '{version}'; s.summary = 'x'; s.authors = ['a']; s.licenses = ['MIT']; s.files = ['lib.rb']
  {platform}
end
"
        );
        write(&source.join("one.gemspec"), &specification);
        lab.shell(&source, "gem build --silent one.gemspec 2>/dev/null");
    }
    let script = format!(
        "for gem in *.gem; do gem install --silent --local --force --no-document --install-dir '{home}' $gem >&2; done
GEM_HOME='{home}' GEM_PATH='{home}' gem list --local",
        home = root.join("usr/local/bundle").display()
    );
    // `NAME (VERSION PLATFORM, VERSION, default: VERSION)`; the default ones are those of the installed Ruby.
    let row = |line: &str| {
        let (name, versions) = line.trim_end_matches(')').split_once(" (")?;
        let versions = versions.split(", ").filter(|version| !version.starts_with("default: "));
        Some(
            versions
                .map(|version| format!("{name} {}", version.split(' ').next().unwrap_or_default()))
                .collect::<Vec<_>>(),
        )
    };
    let expected = sorted(lab.shell(&source, &script).lines().filter_map(row).flatten());
    assert_eq!(expected.len(), gems.len(), "{expected:?}");
    let scan = lab.scan("gems", &[&root]);
    scan.assert_complete();
    assert_eq!(scan.rows("gem", &NAME), expected);
}

/// Libraries of Debian, alone, in an application that contains them, and in an archive of applications.
#[test]
fn java_artifacts_are_those_that_maven_recorded() {
    let lab = Lab::new();
    let root = lab.new_dir("java");
    let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/jars");
    let script = format!(
        "mkdir -p usr/lib/java opt; cp '{}'/*.jar usr/lib/java/
python3 - <<'END'
import glob, io, os, zipfile

def artifacts(path, content):
    archive = zipfile.ZipFile(io.BytesIO(content))
    for name in archive.namelist():
        if name.endswith('/pom.properties'):
            fields = dict(line.split('=', 1) for line in archive.read(name).decode().split('\\n') if line[:1] not in ('', '#'))
            fields = {{key.strip(): value.strip() for key, value in fields.items()}}
            print(path, fields['groupId'] + ':' + fields['artifactId'], fields['version'])
        elif name.endswith(('.jar', '.war')):
            artifacts(path + '/' + name, archive.read(name))

def pack(target, method, folder, files, front=b''):
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', method) as archive:
        archive.writestr('META-INF/MANIFEST.MF', 'Manifest-Version: 1.0\\n')
        for file in files:
            archive.write(file, folder + os.path.basename(file))
    open(target, 'wb').write(front + content.getvalue())

libraries = sorted(glob.glob('usr/lib/java/*.jar'))
pack('opt/boot.jar', zipfile.ZIP_STORED, 'BOOT-INF/lib/', libraries)
pack('opt/start.jar', zipfile.ZIP_STORED, 'BOOT-INF/lib/', libraries, b'#!/bin/sh\\nexec java -jar $0\\n')
pack('opt/app.war', zipfile.ZIP_DEFLATED, 'WEB-INF/lib/', libraries + ['opt/boot.jar'])
for path in libraries + ['opt/boot.jar', 'opt/start.jar', 'opt/app.war']:
    artifacts(path, open(path, 'rb').read())
END",
        jars.display()
    );
    let expected = sorted(lab.shell(&root, &script).lines().map(str::to_owned));
    assert!(expected.len() >= 10, "{expected:?}");
    let scan = lab.scan("java", &[&root]);
    scan.assert_complete();
    assert_eq!(scan.rows("maven", &["path", "name", "version"]), expected);
}
