//! All mistakes are named by one run.

use super::*;

/// About twenty mistakes in the file and fifteen outside of it, all named by one run; `serve` names those that prevent a
/// start, in one go as well.
#[test]
fn all_mistakes_are_named_by_one_run() {
    let made = prepared("");
    made.file("policies/broken.yaml", "kind: Nonsense\n");
    made.file(
        "pullgate.toml",
        "\
stat_dir = \"x\"
state_dir = \"newer\"
shutdown_grace = \"60 sec\"
[log]
filter = \"nonsense==\"
format = \"xml\"
[[listener]]
address = \"5000\"
tls = { certificate = \"absent.crt\", key = \"other.key\" }
[[listener]]
address = \"0.0.0.0:5100\"
http2 = \"yes\"
tls = { certificate = \"good.crt\", key = \"other.key\" }
[[listener]]
address = \"127.0.0.1:5100\"
tls = { certificate = \"old.crt\", key = \"old.key\", client_ca = \"junk\" }
[admin]
address = \"0.0.0.0:5101\"
[limits]
header_timeout = 60
max_header_size = \"1KiB\"
[gate]
mode = \"warn\"
verdict_wait = \"40s\"
platforms = [\"linux\"]
[policy]
dir = \"policies\"
[trust]
default_authorities = [\"release\"]
trusted_roots = [\"absent.json\"]
notary_root = \"junk\"
[trust.authority.x.cosign.key]
file = \"absent.pub\"
[va]
reports = [\"absent\", \"reports\"]
[va.ibm]
api_key_file = \"absent\"
[[va.scanner]]
kind = \"clair\"
[[va.scanner]]
kind = \"trivy\"
command = \"./absent\"
[cache]
max_size = 5
low_watermark = 99
[audit]
file = \"/dev/null/audit.jsonl\"
[events]
urls = [\"ftp://a.test\"]
secret_file = \"absent\"
[[upstream]]
host = \"a.test\"
url = \"ftp://a.test\"
path = \"a/b\"
ca = \"junk\"
auth = { type = \"basic\", username = \"u\", password = \"hunter2\" }
[[upstream]]
host = \"UPPER CASE\"
[[upstream]]
host = \"a.test\"
ca = \"absent.crt\"
auth = { type = \"basic\", username = \"u\", password_file = \"absent\" }
[[upstream]]
host = \"reg.test:5000\"
",
    );
    let within = [
        ":1: error: stat_dir: unknown key",
        ":3: error: shutdown_grace: \"60 sec\": a duration is",
        ":5: error: log.filter: not a log filter",
        ":6: error: log.format: must be one of",
        ":8: error: listener[0].address: \"5000\" is not a valid address",
        ":12: error: listener[1].http2: must be true or false",
        ":15: error: listener[2].address: 127.0.0.1:5100 cannot be used",
        ":18: error: admin.address: 0.0.0.0:5101 is reachable",
        ":20: error: limits.header_timeout: expected a string such as \"60s\", found the number 60",
        ":21: error: limits.max_header_size: must be at least 8KiB",
        ":23: error: gate.mode: must be one of",
        ":24: error: gate.verdict_wait: must be at most 28s",
        ":25: error: gate.platforms: \"linux\": a platform is",
        ":29: error: trust.default_authorities: no authority is called \"release\"",
        ":39: error: va.scanner[0].kind: must be embedded",
        ":44: error: cache.max_size: 5 without a unit",
        ":45: error: cache.low_watermark: must not be above",
        ":49: error: events.urls: number 1 is not",
        ":53: error: upstream[0].url: \"ftp://a.test\" is not",
        ":54: error: upstream[0].path: \"a/b\" cannot be",
        ":56: error: upstream[0].auth.password: a secret must not be in the configuration",
        ":58: error: upstream[1].host: \"UPPER CASE\"",
        ":60: error: upstream[2].host: another upstream also has the name",
        ":62: error: upstream[2].auth: serve_to is required",
        ":64: warning: upstream[3].host: a path cannot contain a port",
    ];
    let prevents = [
        ":9: error: listener[0].tls.certificate: FOLDER/absent.crt: ",
        ":13: error: listener[1].tls.key: FOLDER/other.key: this is not the key",
        ":16: error: listener[2].tls.client_ca: FOLDER/junk: no certificate",
        ":2: error: state_dir: FOLDER/newer/pullgate.db: the database was written by a newer",
        "/broken.yaml:1: error: ",
        ":30: error: trust.trusted_roots: FOLDER/absent.json: ",
        ":31: error: trust.notary_root: FOLDER/junk: ",
        "error: trust.authority.x.cosign.key: file \"absent.pub\": ",
        ":47: error: audit.file: /dev/null: the directory cannot be",
        ":55: error: upstream[0].ca: FOLDER/junk: ",
        ":61: error: upstream[2].ca: FOLDER/absent.crt: ",
    ];
    let reported = [
        ":16: error: listener[2].tls.certificate: FOLDER/old.crt: the certificate expired",
        ":62: error: upstream[2].auth.password_file: FOLDER/absent: ",
        ":50: error: events.secret_file: FOLDER/absent: ",
        ":37: error: va.ibm.api_key_file: FOLDER/absent: ",
        ":35: warning: va.reports: FOLDER/absent: ",
        ":35: warning: va.reports: FOLDER/reports/broken.json: ",
        ":42: error: va.scanner[1].command: scanner trivy: ",
    ];
    let folder = made.path().display().to_string();
    let (code, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert_eq!(code, Some(78), "{lines:#?}");
    for wanted in within.iter().chain(&prevents).chain(&reported) {
        let wanted = wanted.replace("FOLDER", &folder);
        assert!(lines.iter().any(|line| line.contains(&wanted)), "{wanted}\n{lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("hunter2")), "a secret is never printed");

    let output = made.run(&["serve"], &[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    // The text has columns, too.
    let said: Vec<String> = said.lines().map(without_column).collect();
    for wanted in within.iter().chain(&prevents) {
        let wanted = wanted.replace("FOLDER", &folder);
        assert!(said.iter().any(|line| line.contains(&wanted)), "{wanted}\n{said:#?}");
    }
}

/// `FILE:3:1: error: …` as `FILE:3: error: …`.
fn without_column(line: &str) -> String {
    let Some((place, rest)) = line.split_once(": ") else { return line.to_owned() };
    let place = place.rsplit_once(':').filter(|(before, _)| before.contains(':')).map_or(place, |(before, _)| before);
    format!("{place}: {rest}")
}
