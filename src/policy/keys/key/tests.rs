//! Signatures created with `openssl dgst -sha256 -sign key.pem`, over the text of [`MESSAGE`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const MESSAGE: &[u8] = b"signed with a key";

const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEeWtLkryyJUV84gG/b6IuCzPVkc9A0kP5
heEyxqcwKUNtHFW921PPJxxkbN0BSNgOjWSJ9AW2gkg5L6bBvB+MwG7TV9VAG6Xk
JiPXtfVqPvp4zLoqQZCuRbGACSXOSdFo
-----END PUBLIC KEY-----
";

const P521: &str = "-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAcDcg8/+leYr/T8CV5Cx2PMEKX7g6
VPHdEE/WI8TluW2IWwliofcyCuuity8SZxLVJj5874EEH9uV17cbA4SXcSMA0edu
EgGoy9KPLvqjlYr/MVc/lBlKxaXoqBSJaZ2/yEqP6E1lXDFbbPhxpLXerz2umXzz
1gJZlL4332aMCWM+WlU=
-----END PUBLIC KEY-----
";

const RSA_2048: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAms4ZaCSoglx3YdrPaDdh
xMQQVhYKw3NQ8dCnKFtkfKN0lef3PsB5Cy/uQz3xS2LheCVXrGfcRy0mKdWyoTok
tHzrgmuTDGsWKyMYJr/KtS/igxOXgSKiOoYQd6Bl3Zj1JU4L6ovO6dgtPhRxe+3s
sXGVMrQYmOWX+4COn1mumBQQ8rLti1PSo5HngmKcqT1Xu3ijI0fC5JAL2Do0CAkZ
EPBwjy6iCoSTDkn/G5c4BI4dJ5+ojhUP7T2qWAt9RJH9BEPHBP/3Im0eXw9hPpeP
HOOt6zTzI+wo22fOE2iiD4/tO5Uz48a2grrUjmh/EADAZhW6QUyO7uFELVGn4F74
UwIDAQAB
-----END PUBLIC KEY-----
";

const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCeKWfH5lswBzujToxVYLeqV/g7
LtSE2w08YZu6gZ+ZGMDMWCacFqyMWp4jhOJs9b84rFPV/1A1JGUCKV1LE6QmtpYY
U3ChRqsIf99BDoBQjD8GCRN8gj3gfh/jwX6+6Tg6QtbAiXjE6Mv7gF7iiC+2ermS
CFbFgxfduxvXAtZ7hQIDAQAB
-----END PUBLIC KEY-----
";

fn key(pem: &str) -> PublicKey {
    PublicKey::from_pem(pem).unwrap()
}

#[test]
fn hashes_that_the_key_does_not_determine() {
    for (kind, pem, signature) in [
        (
            "ECDSA P-384",
            P384,
            "MGYCMQCwzoQOXHojcf92KdnDVR8Vdhy4ZZRMy8OJWXGXTKOsntLAJkNt453XIElNUuwbv3kCMQDT0w8sDftuYKk5\
             XdeVwRNL31uesOtnj5z7mG1y6zjQhrKeJqluSwKqVtlPwWcytqM=",
        ),
        (
            "ECDSA P-384",
            P384,
            "MGUCMQD7qQZ+O20pFRsU0/HxZ/0dvuS56QhmgStxt+gDnR/GMs8qNTidKPWC0kuAe127nwgCMCv6r0E9LJjPOFm8\
             kE9NR0EM0hFPf7jTRg4UtDPD8WXMxndm0lBofV+yeoqMFwHGlg==",
        ),
        (
            "ECDSA P-521",
            P521,
            "MIGIAkIBqQaprJnx7RcZwMA/xbjzilPUXhy0UhF0FNa/XewY7QGje2OyL81lmbdxtIeyujims0cpq/6sATCzqKNp\
             Xco05O0CQgDoXjUhMwgqD7J9rkeC7LqSwpCGlhwkBaApmsI4PrQMKI6f5AV3Lh4jVsoD/kIsi3z+GatwVgoazLzd\
             uEN/9WX2Bw==",
        ),
        (
            "RSA",
            RSA_2048,
            "YTZRe3GJdBBJ0F3IqAqidg8at0nDqoEjyv5pNXpXUFE7YKD3T9Vd0tz1JTRnwThUI9B9Emo+2XA9lgUldTlBAjPy\
             FA67D5V4UtSBne+xOioCR3D4b4N1nWeCs5igeK0KHZ8ZJh6ggYvOSeQ1+Af3DesVlL4UQyZdsaCONfMtb1EGs1uO\
             IWugpQTxL0ciza9PGXnWYgFVGGUEP7fGuvhK3wEw5SiEu1hS8F6fmU7UYo9r/1TmxJ6XE/CnWcihx4xMieh2b9Xz\
             skZs3b7W30EcIaHooAD0mUf6QAPAYEyU3kPJH7sRonwCyPfFmOjbVFdCv3n4bPf8QWqOd+dDp28GaA==",
        ),
        (
            "RSA",
            RSA_2048,
            "Uh3lgKar3+WXVsIpb7YA2ycWL5E6u3ESuQ4zAWLrA62F2W+owdJy7KqlRfmsLb2hVizL2bbvRRgeuGhcpFEQsgKp\
             s23HO9TDff9mhGd2szm5No+6C1WuE49UYyB2Bn6/txBlmfhZJTbszkenbriFGqRq05U/Gop4v1gX+XNZiSWA5s5F\
             diQkwmBz/WjZJx+HW9Q075/2SwybEEnFfEtQl1bNMrtuL0N+XiFdnSy16mJBL5Uxm9HBE2E6wteslc2KweFAOt2R\
             oH64RlJPwdQpw+wlRIdVynvmuD/zLE/lLXyqSjsg1njz0aGDp+xqMZwW2B0DNdaDOkRCotKgnf65Jg==",
        ),
    ] {
        let (key, mut signature) = (key(pem), STANDARD.decode(signature).unwrap());
        assert!(key.to_string().starts_with(kind), "{key}");
        assert!(key.verify(MESSAGE, &signature), "{key}");
        assert!(!key.verify(b"signed with another", &signature), "{key}");
        *signature.last_mut().unwrap() ^= 1;
        assert!(!key.verify(MESSAGE, &signature), "{key}");
    }
}

/// RFC 8032, section 7.3 (Ed25519ph) and section 7.1, test 2 (Ed25519).
#[test]
fn ed25519_plain_and_prehashed() {
    for (public, message, signature) in [
        (
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            &b"abc"[..],
            "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
             31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            &[0x72],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ] {
        let spki = [&hex("302a300506032b6570032100")[..], &hex(public)].concat();
        let key = PublicKey::from_spki(&spki).unwrap();
        assert!(key.verify(message, &hex(signature)), "{key}");
        assert!(!key.verify(b"abd", &hex(signature)), "{key}");
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().map(|c| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The verifier accepts every key that the linter accepts.
#[test]
fn different_encodings_are_the_same_key() {
    let indented: String = P384.lines().map(|line| format!("    {line}\n")).collect();
    for text in [
        P384.trim_end().to_owned(),
        P384.replace('\n', "\r\n"),
        P384.replace('\n', "  \n"),
        P384.replace('\n', ""),
        P384.replace('\n', "\n\n"),
        format!("\u{feff}Key of the release team:\n{P384}and nothing else\n"),
        format!("\n\t{P384}\n\n"),
        indented,
    ] {
        assert_eq!(key(&text), key(P384), "{text}");
        assert_eq!(key(&text).to_pem(), P384);
    }
    assert_ne!(key(P384), key(P521));
}

#[test]
fn key_with_a_compressed_point_is_the_same_key() {
    let spki = STANDARD.decode(P384.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    let (head, point) = spki.split_at(spki.len() - 97);
    let (x, y) = point[1..].split_at(48);
    // The lengths of the sequence and of the bit string shrink with the point.
    let mut short = [head, &[2 + (y[47] & 1)], x].concat();
    short[1] -= 48;
    short[head.len() - 2] -= 48;
    let compressed = PublicKey::from_spki(&short).unwrap();
    assert_eq!((&compressed, compressed.to_pem()), (&key(P384), P384.to_owned()));
}

#[test]
fn errors_for_texts_without_a_public_key() {
    for (text, part) in [
        (String::new(), "no PUBLIC KEY block"),
        ("rubbish".into(), "no PUBLIC KEY block"),
        (P384.replace("PUBLIC", "PRIVATE"), "private key"),
        (P384.replace("PUBLIC", "EC PRIVATE") + P384, "private key"),
        (P384.replace("PUBLIC KEY", "CERTIFICATE"), "openssl x509 -noout -pubkey"),
        (P384.replace("PUBLIC KEY", "RSA PUBLIC KEY"), "openssl rsa -RSAPublicKey_in"),
        (P384.to_owned() + P521, "more than one block"),
        (P384.replace("-----END", "-----end"), "has no END line"),
        (P384.replace("MHY", "MH?"), "is not base64"),
        ("-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----".into(), "is not base64"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(), "neither an ECDSA key"),
        (RSA_1024.to_owned(), "2048 to 8192 bits"),
    ] {
        let error = PublicKey::from_pem(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn line_breaks_do_not_change_a_key() {
    let twice = [key(P384), key(&P384.replace('\n', "\r\n")), key(P521)];
    assert_eq!(twice[0], twice[1]);
    assert_ne!(twice[1], twice[2]);
}
