use std::str::FromStr;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<DistinguishedName, String> {
    DistinguishedName::parse(text).map_err(|invalid| invalid.to_string())
}

#[test]
fn names_are_compared_by_attributes_and_not_by_text() {
    let whole = parse("C=US, ST=WA, L=Seattle, O=Acme\\, Inc., OU=org1, CN=signer").unwrap();
    for (identity, included) in [
        ("C=US,ST=WA,O=Acme\\, Inc.", true),
        ("O=Acme\\2C Inc.,S=WA,C=US", true),
        ("CN=signer , OU =org1,C= US", true),
        ("C=US,ST=WA,O=Acme", false),
        ("C=US,ST=WA,O=Acme\\, Inc.,OU=org2", false),
        ("C=US,ST=WA,O=Acme\\, Inc.,SERIALNUMBER=1", false),
        ("C=us,ST=WA,O=Acme\\, Inc.", false),
    ] {
        assert_eq!(whole.includes(&parse(identity).unwrap()), included, "{identity}");
    }
    assert!(!parse("C=US").unwrap().includes(&whole));
    let spaces = parse("O=\\ a b\\ ,C=US").unwrap();
    assert_eq!(spaces.to_string(), "C=US,O=\\ a b\\ ");
    assert_eq!(parse("O=\\C3\\A4").unwrap(), parse("O=ä").unwrap());
}

/// A value must not be able to pose as further attributes, nor hide some.
#[test]
fn names_that_could_be_read_in_two_ways_are_refused() {
    for (text, part) in [
        ("", "is not ATTRIBUTE=VALUE"),
        ("C=US,", "is not ATTRIBUTE=VALUE"),
        ("C=US,,O=x", "is not ATTRIBUTE=VALUE"),
        ("C", "is not ATTRIBUTE=VALUE"),
        ("=x", "is not ATTRIBUTE=VALUE"),
        ("C=", "its attribute C is empty"),
        ("C= ", "its attribute C is empty"),
        ("C=US,C=DE", "C more than once"),
        ("S=WA,ST=WA", "ST more than once"),
        ("C=US+O=x", "joins attributes with +"),
        ("O=a;b", "write a backslash before ';'"),
        ("O=\"a, b\"", "write a backslash before '\"'"),
        ("O=#0403", "write a backslash before '#'"),
        ("O=a\\", "a backslash must be followed"),
        ("O=a\\xy", "a backslash must be followed"),
        ("O=\\c3\\28", "a backslash must be followed"),
        ("c=US", "its attribute c is not one of C, ST, L, "),
        ("2.5.4.6=US", "its attribute 2.5.4.6 is not one of"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn names_of_certificates_are_read_or_refused() {
    let of = |text: &str| DistinguishedName::of(&Name::from_str(text).unwrap());
    assert_eq!(of("CN=signer,O=Acme\\, Inc.,ST=WA,C=US").unwrap().to_string(), "C=US,ST=WA,O=Acme\\, Inc.,CN=signer");
    assert_eq!(of("CN=a+O=b"), Err(InvalidDistinguishedName::MultiValued));
    assert_eq!(of("O=a,O=b"), Err(InvalidDistinguishedName::Duplicate("O")));
    assert_eq!(of("DC=a"), Err(InvalidDistinguishedName::Unknown("0.9.2342.19200300.100.1.25".into())));
}

proptest! {
    /// Every value survives being written and read.
    #[test]
    fn written_names_are_read_back(one in "[ -~ä#]{1,12}", other in "\\PC{1,8}") {
        let mut name = DistinguishedName::default();
        name.add(5, one).unwrap();
        name.add(0, other).unwrap();
        prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
        if let Ok(name) = DistinguishedName::parse(&text) {
            prop_assert!(name.includes(&name));
        }
    }
}
