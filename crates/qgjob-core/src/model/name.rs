//! Names that users choose, each checked once, when it is read.

/// Why a name was refused: what it is, and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {rule}")]
pub struct BadName {
    /// Which kind of name.
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// The rule, as the end of a sentence.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $example:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
        #[schema(value_type = String, example = $example)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(rule) => Err(BadName { what: $what, text: text.to_owned(), rule }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A tenant: 1 to 64 of `[A-Za-z0-9._-]`, starting with a letter or digit.
    OrgId, "org id", "qualgent", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        simple(text, 64, allowed, "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit")
    }
}

name! {
    /// An org's label for a build: 1 to 128 of `[A-Za-z0-9._+:@/-]`, starting with a letter or digit.
    AppVersionId, "app version id", "xyz123", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._+:@/-".contains(c);
        simple(text, 128, allowed, "must be 1 to 128 of A-Z a-z 0-9 . _ + : @ / - and start with a letter or digit")
    }
}

name! {
    /// What jobs name so that only so many of them run at a time: 1 to 64 of `[A-Za-z0-9._-]`, starting with a letter or
    /// digit.
    ConcurrencyGroup, "concurrency group", "staging-backend", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        simple(text, 64, allowed, "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit")
    }
}

name! {
    /// A test file's path inside its project: relative, `/` between parts, at most 1,024 bytes, no `..`.
    TestPath, "test path", "tests/onboarding.spec.js", |text| {
        if text.is_empty() || text.len() > 1024 {
            return Err("must be 1 to 1,024 bytes long");
        }
        if text.starts_with('/') || text.contains('\\') || text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("must be relative to the project, with / between parts and no '.' or '..' part");
        }
        if text.chars().any(char::is_control) {
            return Err("must not hold control characters");
        }
        Ok(())
    }
}

name! {
    /// What a client sends so that a repeated request has one effect: 1 to 255 visible ASCII characters.
    IdempotencyKey, "idempotency key", "ci-4711-1", |text| {
        if text.is_empty() || text.len() > 255 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("must be 1 to 255 visible ASCII characters");
        }
        Ok(())
    }
}

name! {
    /// Key of a label: 1 to 64 of `[A-Za-z0-9._/-]`.
    LabelKey, "label key", "branch", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        simple(text, 64, allowed, "must be 1 to 64 of A-Z a-z 0-9 . _ / - and start with a letter or digit")
    }
}

name! {
    /// Value of a label: at most 256 bytes, no control characters.
    LabelValue, "label value", "main", |text| {
        if text.len() > 256 || text.chars().any(char::is_control) {
            return Err("must be at most 256 bytes without control characters");
        }
        Ok(())
    }
}

name! {
    /// Who issues id-tokens, exactly as it stands in their `iss`: an `https` address of at most 256 visible ASCII characters
    /// without query, fragment and user; `http` only on this machine.
    IssuerUrl, "issuer", "https://token.actions.githubusercontent.com", |text| {
        const RULE: &str = "must be an https:// address without query, fragment and user (http:// only on this machine)";
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(RULE),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let plain = text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#@\\\"<>".contains(&b));
        let host = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((v6, _)) => v6,
            None => authority.split(':').next().unwrap_or_default(),
        };
        let here = host == "localhost" || host.parse().is_ok_and(|ip: core::net::IpAddr| ip.is_loopback());
        if plain && !host.is_empty() && (secure || here) { Ok(()) } else { Err(RULE) }
    }
}

name! {
    /// Name of a claim of an id-token: 1 to 64 of `[A-Za-z0-9._:/-]`, starting with a letter or digit.
    ClaimName, "claim", "repository_id", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        simple(text, 64, allowed, "must be 1 to 64 of A-Z a-z 0-9 . _ : / - and start with a letter or digit")
    }
}

name! {
    /// What a claim must be, as a whole and to the letter: 1 to 256 bytes without control characters. `*` stands for any
    /// characters but `/`, `**` for any with `/`.
    Pattern, "pattern", "refs/heads/release/*", |text| {
        if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
            return Err("must be 1 to 256 bytes without control characters");
        }
        if text.replace("**", "*").matches('*').count() > 8 {
            return Err("must hold at most 8 wildcards");
        }
        Ok(())
    }
}

name! {
    /// Name of an environment variable given to a test: `[A-Za-z_][A-Za-z0-9_]*`, at most 128 bytes, and none
    /// that would make the runner load foreign code (`LD_*`, `NODE_OPTIONS`, `GIT_*`, `npm_config_*` …).
    EnvName, "environment variable", "BASE_URL", |text| {
        let mut chars = text.chars();
        let starts_well = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || text.len() > 128 || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err("must be a letter or _ followed by letters, digits or _, at most 128 in all");
        }
        const DENIED: &[&str] =
            &["LD_", "DYLD_", "PYTHON", "GIT_", "PERL5", "NPM_CONFIG_", "JAVA_TOOL_OPTIONS", "BASH_ENV", "NODE_OPTIONS", "QGJOB_"];
        let upper = text.to_ascii_uppercase();
        if upper == "ENV" || upper == "PATH" || DENIED.iter().any(|denied| upper.starts_with(denied)) {
            return Err("is reserved: it would change how the runner itself is started");
        }
        Ok(())
    }
}

fn simple(
    text: &str,
    most: usize,
    allowed: fn(char) -> bool,
    rule: &'static str,
) -> Result<(), &'static str> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= most && text.chars().all(allowed) { Ok(()) } else { Err(rule) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_names_are_good() {
        assert!("qualgent".parse::<OrgId>().is_ok());
        assert!("xyz123".parse::<AppVersionId>().is_ok());
        assert!("tests/onboarding.spec.js".parse::<TestPath>().is_ok());
    }

    #[test]
    fn names_are_held_to_their_length_at_the_edge() {
        assert!("a".repeat(64).parse::<OrgId>().is_ok());
        assert!("a".repeat(65).parse::<OrgId>().is_err());
        assert!("a".repeat(128).parse::<AppVersionId>().is_ok());
        assert!("a".repeat(129).parse::<AppVersionId>().is_err());
        assert!("a".repeat(64).parse::<ConcurrencyGroup>().is_ok());
        assert!("a".repeat(65).parse::<ConcurrencyGroup>().is_err());
        assert!("a".repeat(1024).parse::<TestPath>().is_ok());
        assert!("a".repeat(1025).parse::<TestPath>().is_err());
    }

    #[test]
    fn an_issuer_is_an_https_address_unless_it_is_this_machine() {
        for good in [
            "https://token.actions.githubusercontent.com",
            "https://gitlab.example.com:8443/sub",
            "http://127.0.0.1:4000",
            "http://[::1]:4000",
            "http://localhost",
        ] {
            assert!(good.parse::<IssuerUrl>().is_ok(), "{good}");
        }
        for bad in [
            "http://gitlab.com",
            "http://localhost.evil.example",
            "http://127.0.0.1@evil.example",
            "https://",
            "https://a b",
            "https://a?b",
            "https://a#b",
            "https://user@a",
            "ftp://a",
            "gitlab.com",
            "",
        ] {
            assert!(bad.parse::<IssuerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_test_path_stays_inside_its_project() {
        for bad in ["/etc/passwd", "../x.spec.js", "a/../../b", "a//b", "./a", "a\\b", "a\nb", ""] {
            assert!(bad.parse::<TestPath>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn variables_that_load_code_are_refused() {
        for bad in [
            "LD_PRELOAD",
            "NODE_OPTIONS",
            "npm_config_registry",
            "PATH",
            "GIT_SSH_COMMAND",
            "QGJOB_TOKEN",
            "1A",
            "A-B",
        ] {
            assert!(bad.parse::<EnvName>().is_err(), "{bad:?} was accepted");
        }
        assert!("BASE_URL".parse::<EnvName>().is_ok());
    }
}
