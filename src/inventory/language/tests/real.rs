//! Real programs and packages, built or installed by their own tools.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Reads a file as the reader of layers does. `None` if it is not recognised.
fn read_file(path: &Path) -> Option<LanguagePackages> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let first_bytes = window::read_up_to(&mut file, 0, 4096)?;
    let name = path.to_str()?.trim_start_matches('/');
    let (time, folder) = (ReadingTime::new(Duration::from_secs(600)), std::env::temp_dir());
    let spool = Spool::new(&folder, &time, u64::MAX);
    let by_content = LanguageFile::by_content(&first_bytes);
    Some(language_file(name, &first_bytes)?.read(name, by_content, &mut file, size, LIMITS, &spool))
}

/// Reads all files below a directory, with the number of files that were recognised.
fn read_folder(folder: &Path) -> (usize, LanguagePackages) {
    let mut all = LanguagePackages { limits: LIMITS, ..LanguagePackages::default() };
    let mut count = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Some(found) = read_file(&entry.path())
            {
                count += 1;
                all.packages.extend(found.packages);
                all.problems
                    .extend(found.problems.iter().map(|problem| format!("{}: {problem}", entry.path().display())));
            }
        }
    }
    (count, all)
}

/// Prints the names of the files whose distributions Python finds.
const PYTHON: &str = "
import importlib.metadata, os, sys
for name in sorted(os.listdir(sys.argv[1])):
    try:
        for found in importlib.metadata.distributions(path=[os.path.join(sys.argv[1], name)]):
            if found.metadata['Name']:
                print(name, found.metadata['Name'])
    except Exception:
        pass
";
/// The same for what Java reads from them.
const JAVA: &str = r#"
public class Readers {
    public static void main(String[] arguments) throws Exception {
        for (java.io.File file : new java.io.File(arguments[0]).listFiles()) {
            try (java.util.zip.ZipFile archive = new java.util.zip.ZipFile(file)) {
                for (String name : new String[] {"six-1", "another-2"}) {
                    java.util.zip.ZipEntry entry = archive.getEntry(name + ".dist-info/METADATA");
                    if (entry != null && archive.getInputStream(entry).readAllBytes().length > 0) {
                        System.out.println(file.getName() + " " + name.split("-")[0]);
                    }
                }
            } catch (Exception | Error unreadable) {
            }
        }
    }
}
"#;

/// Archives in every form, and each with every byte of its end changed: what Python or Java finds in one is found here,
/// or the archive is a problem.
#[test]
#[ignore = "runs Python and Java"]
fn what_python_and_java_find_in_an_archive_is_found() {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for (_, file, _) in archives::readers::cases() {
        for at in file.len().saturating_sub(120)..file.len() {
            for mask in [0x01, 0xff] {
                let mut changed = file.clone();
                changed[at] ^= mask;
                files.push(changed);
            }
        }
        files.push(file);
    }
    files.retain(|file| file.len() < 10_000);
    let folder = tempfile::tempdir().expect("a directory");
    for (index, file) in files.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{index}.egg")), file).expect("a file");
    }
    let source = tempfile::tempdir().expect("a directory");
    let source = (source.path().join("Readers.java"), source);
    std::fs::write(&source.0, JAVA).expect("a file");
    for (program, arguments) in [("python3", vec!["-c", PYTHON]), ("java", vec![source.0.to_str().expect("UTF-8")])] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("note: skipped the reader {program}, which is not installed");
            continue;
        }
        let answers = run(Command::new(program).args(arguments).arg(folder.path()));
        let mut found = 0;
        for (name, distribution) in answers.lines().filter_map(|line| line.split_once(".egg ")) {
            let file = &files[name.parse::<usize>().expect("a number")];
            let ours = names(&read("x.egg", file));
            let is_found = |ours: &String| ours == "!" || ours.starts_with(&format!("{distribution} "));
            assert!(ours.iter().any(is_found), "{program} finds {distribution}, not {ours:?}: {}", file.escape_ascii());
            found += 1;
        }
        assert!(found > 1000, "{program} reads {found} of {}: the archives are useless", files.len());
        println!("{program} reads {found} of {}", files.len());
    }
}

fn sorted(found: &LanguagePackages) -> Vec<String> {
    assert_eq!(found.problems, [""; 0]);
    let mut names = names(found);
    names.sort();
    names.dedup();
    names
}

/// Prints what is found below the directories in `PULLGATE_READ`, separated by `:`.
#[test]
#[ignore = "reads the folders in PULLGATE_READ"]
fn folders_of_this_machine() {
    for folder in std::env::var("PULLGATE_READ").expect("PULLGATE_READ is set").split(':') {
        let started = std::time::Instant::now();
        let (count, all) = read_folder(Path::new(folder));
        println!("{folder}: {count} files, {} packages, {:?}", all.packages.len(), started.elapsed());
        for problem in &all.problems {
            println!("  {problem}");
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// A program with two modules from the module proxy, and a replaced one.
fn go_program(folder: &Path) {
    write(
        folder,
        "go.mod",
        "module example.com/program\n\ngo 1.21\n\nrequire (\n\texample.com/local v0.0.0\n\trsc.io/quote v1.5.2\n)\n\n\
         replace example.com/local => ./local\n",
    );
    write(folder, "local/go.mod", "module example.com/local\n\ngo 1.21\n");
    write(folder, "local/local.go", "package local\n\nconst Text = \"local\"\n");
    write(
        folder,
        "main.go",
        "package main\n\nimport (\n\t\"fmt\"\n\t\"example.com/local\"\n\t\"rsc.io/quote\"\n)\n\n\
         var version = \"unknown\"\n\nfunc main() { fmt.Println(version, local.Text, quote.Hello()) }\n",
    );
    run(Command::new("go").args(["mod", "tidy"]).current_dir(folder));
}

fn go_build(folder: &Path, output: &str, os: &str, arch: &str, arguments: &[&str]) -> PathBuf {
    let mut command = Command::new("go");
    command.current_dir(folder).env("CGO_ENABLED", "0").env("GOOS", os).env("GOARCH", arch);
    run(command.args(["build", "-p", "2", "-o", output]).args(arguments).arg("."));
    folder.join(output)
}

/// The modules that `go version -m` reads from a program.
fn go_modules(program: &Path) -> Vec<String> {
    let text = run(Command::new("go").args(["version", "-m"]).arg(program));
    let toolchain = text.lines().next().and_then(|line| line.rsplit(": go").next()).expect("a toolchain");
    let mut modules = vec![format!("stdlib v{toolchain}")];
    for line in text.lines().skip(1) {
        let columns: Vec<_> = line.trim_start().split('\t').collect();
        match columns.as_slice() {
            ["dep", module, version, ..] => modules.push(format!("{module} {version}")),
            ["=>", module, version, ..] => {
                modules.pop();
                modules.push(format!("{module} {}", version.trim_matches(['(', ')']).replace("devel", "")));
            }
            ["mod", module, ..] => modules.push(format!("{module} 1.2.3")),
            _ => {}
        }
    }
    modules.sort();
    modules
}

#[test]
#[ignore = "needs Go and its module proxy"]
fn go_programs_of_every_platform() {
    let folder = tempfile::tempdir().expect("a folder");
    go_program(folder.path());
    for (os, arch, extra) in [
        ("linux", "amd64", ""),
        ("linux", "amd64", "-buildmode=pie"),
        ("linux", "386", ""),
        ("linux", "arm64", ""),
        ("linux", "mips", ""),
        ("linux", "s390x", ""),
        ("windows", "amd64", ""),
        ("windows", "386", ""),
        ("darwin", "arm64", ""),
    ] {
        for flags in ["-X main.version=1.2.3", "-s -w -X main.version=1.2.3"] {
            let flags = format!("-ldflags={flags}");
            let arguments = [flags.as_str(), "-buildvcs=false", extra];
            let arguments: Vec<_> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
            let program = go_build(folder.path(), "program", os, arch, &arguments);
            let found = read_file(&program).expect("it is recognised");
            let expected = go_modules(&program);
            assert!(expected.iter().any(|module| module == "rsc.io/quote v1.5.2"), "{expected:?}");
            assert_eq!(sorted(&found), expected, "{os} {arch} {extra} {flags}");
        }
    }
}

#[test]
#[ignore = "needs Go and its module proxy"]
fn a_universal_go_program_states_all_its_programs() {
    let folder = tempfile::tempdir().expect("a folder");
    go_program(folder.path());
    let flags = ["-ldflags=-X main.version=1.2.3", "-buildvcs=false"];
    let programs = ["arm64", "amd64"].map(|arch| go_build(folder.path(), arch, "darwin", arch, &flags));
    let contents = programs.each_ref().map(|program| std::fs::read(program).expect("a program"));
    let mut universal = [0xcafe_babe_u32, 2].map(u32::to_be_bytes).concat();
    let mut offset = 4096;
    for content in &contents {
        let size = u32::try_from(content.len()).expect("small");
        universal.extend([0, 0, offset, size, 12].map(u32::to_be_bytes).concat());
        offset += size;
    }
    universal.resize(4096, 0);
    universal.extend(contents.concat());
    let found = read("program", &universal);
    assert_eq!(found.packages.len(), 2 * go_modules(&programs[0]).len());
    assert_eq!(sorted(&found), go_modules(&programs[0]));
}

#[test]
#[ignore = "needs pip and the package index"]
fn python_distributions_are_those_that_pip_lists() {
    let folder = tempfile::tempdir().expect("a folder");
    let packages = ["PyYAML==6.0.1", "zope.interface", "Jinja2", "requests"];
    run(Command::new("pip").args(["install", "--quiet", "--target"]).arg(folder.path()).args(packages));
    let listed = run(Command::new("pip").args(["list", "--format=freeze", "--path"]).arg(folder.path()));
    let mut expected: Vec<String> = listed.lines().map(|line| line.replacen("==", " ", 1)).collect();
    expected.sort();
    let (_, found) = read_folder(folder.path());
    assert!(expected.len() > packages.len());
    assert_eq!(sorted(&found), expected);
}

#[test]
#[ignore = "needs npm and its registry"]
fn npm_packages_are_those_that_npm_lists() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut install = Command::new("npm");
    run(install.args(["install", "--ignore-scripts", "express@4", "@babel/code-frame"]).current_dir(folder.path()));
    let lock = std::fs::read_to_string(folder.path().join("package-lock.json")).expect("a lock file");
    let lock: serde_json::Value = serde_json::from_str(&lock).expect("JSON");
    let (_, found) = read_folder(&folder.path().join("node_modules"));
    let found = sorted(&found);
    for (path, package) in lock["packages"].as_object().expect("packages").iter().filter(|(path, _)| !path.is_empty()) {
        let name = path.rsplit("node_modules/").next().expect("a name");
        let expected = format!("{name} {}", package["version"].as_str().expect("a version"));
        assert!(found.contains(&expected), "{expected}");
    }
}

#[test]
#[ignore = "needs Python"]
fn archives_written_by_python() {
    const SCRIPT: &str = "
import io, sys, zipfile
def archive(write):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as zip:
        write(zip)
    return buffer.getvalue()
pom = 'META-INF/maven/g/%s/pom.properties'
def inner(zip):
    with zip.open(pom % 'inner', 'w', force_zip64=True) as file:
        file.write(b'groupId=g\\nartifactId=inner\\nversion=1\\n')
def outer(zip):
    zip.writestr('META-INF/MANIFEST.MF', 'Manifest-Version: 1.0\\n')
    zip.writestr(pom % 'outer', 'groupId=g\\nartifactId=outer\\nversion=2\\n')
    zip.writestr('lib/deflated.jar', archive(inner))
    zip.writestr('lib/stored.jar', archive(inner), zipfile.ZIP_STORED)
    for i in range(70000):
        zip.writestr('classes/%d.class' % i, '')
sys.stdout.buffer.write(archive(outer))
";
    let output = Command::new("python3").args(["-c", SCRIPT]).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sorted(&read("app.jar", &output.stdout)), ["g:inner 1", "g:outer 2"]);
}

#[test]
#[ignore = "needs cargo-auditable and the crate registry"]
fn a_rust_program_states_its_crates() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = "[package]\nname = \"program\"\nversion = \"0.3.0\"\nedition = \"2021\"\nbuild = \"build.rs\"\n\n\
                    [dependencies]\nitoa = \"=1.0.15\"\n\n[build-dependencies]\nautocfg = \"=1.5.0\"\n\n[workspace]\n";
    write(folder.path(), "Cargo.toml", manifest);
    write(folder.path(), "build.rs", "fn main() { autocfg::rerun_path(\"build.rs\"); }\n");
    write(folder.path(), "src/main.rs", "fn main() { println!(\"{}\", itoa::Buffer::new().format(1)); }\n");
    let mut build = Command::new("cargo-auditable");
    build.args(["auditable", "build", "--quiet"]).current_dir(folder.path());
    run(build.env("CARGO_TARGET_DIR", folder.path().join("target")));
    let found = read_file(&folder.path().join("target/debug/program")).expect("it is recognised");
    assert_eq!(sorted(&found), ["itoa 1.0.15", "program 0.3.0"]);
}
