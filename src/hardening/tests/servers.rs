//! Accounts and settings of servers.

use super::*;

#[test]
fn accounts() {
    let observed = |path: &str, text: &str| CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
    let passwd =
        "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:/bin/sh\nguest::1000:1000::/:/bin/sh\napp:x:1001:0::/:\n";
    assert_eq!(
        observed("etc/passwd", passwd),
        [
            FileObservation::Superuser("root".into()),
            FileObservation::Superuser("toor".into()),
            FileObservation::unsafe_line(Check::AccountsEmptyPassword, 3, "the account guest has no password"),
        ]
    );
    assert_eq!(checks("etc/shadow", "root:::0:::::\nbin:*:18000:0:::::\n"), [Check::AccountsEmptyPassword]);
    assert_eq!(checks("etc/shadow", "root:*:18000:0:::::\napp:!:1::::::\nx:$6$abc:1::::::\n"), []);
    let many = "root:x:0:0::/:\n".repeat(100) + &"a::1:1::/:\n".repeat(100);
    assert!(observed("etc/passwd", &many).len() <= MAX_OBSERVATIONS);
    assert_eq!(checks("etc/passwd", "no account\n:::\n"), []);
}

#[test]
fn ssh_servers() {
    let path = "etc/ssh/sshd_config";
    for (text, expected) in [
        ("PermitRootLogin yes", vec![Check::SshPermitRootLogin]),
        ("permitrootlogin=yes", vec![Check::SshPermitRootLogin]),
        ("#PermitRootLogin yes", vec![]),
        ("PermitRootLogin prohibit-password", vec![]),
        ("PermitRootLogin no\nPermitRootLogin yes", vec![]),
        ("PermitRootLogin no\nMatch User a\n  PermitRootLogin yes", vec![Check::SshPermitRootLogin]),
        ("PermitEmptyPasswords yes", vec![Check::SshPermitEmptyPasswords]),
        ("PermitEmptyPasswords no", vec![]),
    ] {
        assert_eq!(checks(path, text), expected, "{text}");
        assert_eq!(checks("etc/ssh/sshd_config.d/10.conf", text), expected, "{text}");
    }
}

#[test]
fn mysql_settings() {
    let server = |lines: &str| format!("[mysqld]\n{lines}\n");
    for (text, expected) in [
        (server("old_passwords = 1"), vec![Check::MysqlOldPasswords]),
        (server("old-passwords=0"), vec![]),
        (server("local-infile"), vec![Check::MysqlLocalInfile]),
        (server("local_infile=OFF"), vec![]),
        (server("loose-local-infile = 1"), vec![Check::MysqlLocalInfile]),
        (server("allow-suspicious-udfs"), vec![Check::MysqlAllowSuspiciousUdfs]),
        (server("allow-suspicious-udfs = false"), vec![]),
        (server("skip_grant_tables"), vec![Check::MysqlSkipGrantTables]),
        (server("secure_file_priv = \"\""), vec![Check::MysqlSecureFilePriv]),
        (server("secure_file_priv = /var/lib/mysql-files"), vec![]),
        (server("user = root"), vec![Check::MysqlUser]),
        (server("user = mysql"), vec![]),
        ("[client]\npassword = hunter2".to_owned(), vec![Check::MysqlPassword]),
        ("[client]\n#password = hunter2\npassword=".to_owned(), vec![]),
        ("[mysql]\nlocal-infile = 1".to_owned(), vec![]),
        ("[mariadb-10.11]\nlocal-infile = 1".to_owned(), vec![Check::MysqlLocalInfile]),
    ] {
        for path in ["etc/my.cnf", "etc/mysql/mysql.conf.d/mysqld.cnf", "etc/my.cnf.d/server.cnf"] {
            assert_eq!(checks(path, &text), expected, "{path}: {text}");
        }
    }
    assert_eq!(checks("usr/share/mysql/my-large.cnf", &server("local-infile")), []);
}

#[test]
fn nginx_settings() {
    let tls = "server {\n listen 443 ssl;\n ";
    for (text, expected) in [
        ("ssl_protocols TLSv1 TLSv1.2;".to_owned(), vec![(Check::NginxSslProtocols, Some(1))]),
        ("http {\n ssl_protocols\n  TLSv1.2\n  TLSv1.1;\n}".to_owned(), vec![(Check::NginxSslProtocols, Some(4))]),
        ("ssl_protocols TLSv1.2 TLSv1.3;".to_owned(), vec![]),
        ("# ssl_protocols SSLv3;".to_owned(), vec![]),
        ("server_tokens on;".to_owned(), vec![(Check::NginxServerTokens, Some(1))]),
        ("server_tokens off;".to_owned(), vec![]),
        ("location / { autoindex on; }".to_owned(), vec![(Check::NginxAutoindex, Some(1))]),
        ("autoindex off;".to_owned(), vec![]),
        ("ssl_ciphers 'HIGH:RC4-SHA:!MD5';".to_owned(), vec![(Check::NginxSslCiphers, Some(1))]),
        ("ssl_ciphers HIGH:!aNULL:!MD5:!RC4;".to_owned(), vec![]),
        ("user root;".to_owned(), vec![(Check::NginxUser, Some(1))]),
        ("user nginx;".to_owned(), vec![]),
        (format!("{tls}ssl_protocols TLSv1.1;"), vec![(Check::NginxSslProtocols, Some(3))]),
        (
            "log_format x '\"$a\" ; ssl_protocols SSLv3;'; autoindex on;".to_owned(),
            vec![(Check::NginxAutoindex, Some(1))],
        ),
        ("return 200 \"a { autoindex on; }\";".to_owned(), vec![]),
    ] {
        for path in ["etc/nginx/nginx.conf", "etc/nginx/conf.d/default.conf", "etc/nginx/sites-enabled/default"] {
            assert_eq!(found(path, &text), expected, "{path}: {text}");
        }
    }
}

#[test]
fn apache_settings() {
    for (text, expected) in [
        ("ServerTokens OS", vec![Check::ApacheServerTokens]),
        ("servertokens Prod", vec![]),
        ("ServerSignature On", vec![Check::ApacheServerSignature]),
        ("ServerSignature Off", vec![]),
        ("TraceEnable On", vec![Check::ApacheTraceEnable]),
        ("TraceEnable off", vec![]),
        ("SSLProtocol all -SSLv3", vec![Check::ApacheSslProtocol]),
        ("SSLProtocol all -SSLv3 -TLSv1 -TLSv1.1", vec![]),
        ("SSLProtocol -all +TLSv1.2", vec![]),
        ("SSLProtocol TLSv1.2 +TLSv1.1", vec![Check::ApacheSslProtocol]),
        ("SSLCipherSuite HIGH:3DES", vec![Check::ApacheSslCipherSuite]),
        ("SSLCipherSuite HIGH:!aNULL", vec![]),
        ("  Options Indexes FollowSymLinks", vec![Check::ApacheOptionsIndexes]),
        ("Options \\\n  +Indexes", vec![Check::ApacheOptionsIndexes]),
        ("Options -Indexes", vec![]),
        ("User root", vec![Check::ApacheUser]),
        ("User www-data", vec![]),
        ("# ServerTokens OS", vec![]),
    ] {
        for path in ["etc/apache2/apache2.conf", "etc/httpd/conf.d/x.conf", "usr/local/apache2/conf/httpd.conf"] {
            assert_eq!(checks(path, text), expected, "{path}: {text}");
        }
        assert_eq!(checks("usr/local/apache2/conf/extra/httpd-autoindex.conf", text), []);
    }
}

#[test]
fn permissions() {
    let checks = |path: &str, mode: u32| -> Vec<HardeningCheck> {
        let check = |observed| match observed {
            FileObservation::Unsafe { check, .. } => check,
            other => panic!("{other:?}"),
        };
        check_mode(path, mode).into_iter().map(check).collect()
    };
    for (path, mode, expected) in [
        ("usr/bin/app", 0o755, vec![]),
        ("usr/bin/app", 0o4755, vec![Check::FilesSetuid]),
        ("usr/bin/app", 0o2755, vec![Check::FilesSetuid]),
        ("app/tool", 0o6711, vec![Check::FilesSetuid]),
        ("usr/bin/app", 0o4644, vec![]),
        ("usr/bin/app", 0o2745, vec![]),
        ("usr/bin/app", 0o777, vec![Check::FilesWorldWritable]),
        ("usr/lib/libx.so.1", 0o666, vec![Check::FilesWorldWritable]),
        ("etc/app.conf", 0o666, vec![Check::FilesWorldWritable]),
        ("usr/share/x", 0o666, vec![]),
        ("tmp/x", 0o777, vec![]),
        ("bin/x", 0o4777, vec![Check::FilesSetuid, Check::FilesWorldWritable]),
    ] {
        assert_eq!(checks(path, mode), expected, "{path} {mode:o}");
    }
}
