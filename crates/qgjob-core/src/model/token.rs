//! Secrets that automata show. The store keeps only their SHA-256.
//!
//! Form: prefix, 43 characters of base 62 (256 random bits), and 6 characters that are the CRC-32 of what stands
//! before them, so that a scanner can tell a leaked token from a look-alike.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::OrgId;
use super::selector::words;
use super::{agent, ci};

super::id::define_id!("tok_", "a token");

/// A token as the store knows it: never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Given by the server.
    pub id: Id,
    /// What it is for.
    pub kind: Kind,
    /// A name for people.
    pub name: String,
    /// The org it is limited to; none: all orgs.
    pub org_id: Option<OrgId>,
    /// The agent it belongs to, for agent session tokens.
    pub agent_id: Option<agent::Id>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// For tokens of kind `ci`: what they allow, and which run of which pipeline they were given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<Box<ci::Grant>>,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Everything, on every org.
    Admin,
    /// The public API, for one org.
    Api,
    /// Register one agent, once.
    Registration,
    /// The agent API, for one agent.
    Agent,
    /// A part of the public API, for one org and one run of a pipeline, which got it for its id-token.
    Ci,
}
words!(Kind, "token kind",
    Admin => "admin", Api => "api", Registration => "registration", Agent => "agent", Ci => "ci");

impl Kind {
    /// What a secret of this kind starts with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Admin => "qgj_adm_",
            Self::Api => "qgj_pat_",
            Self::Registration => "qgj_reg_",
            Self::Agent => "qgj_agt_",
            Self::Ci => "qgj_ci_",
        }
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The secret text of a new token, from 256 random bits.
pub fn secret(kind: Kind, random: [u128; 2]) -> String {
    let mut text = kind.prefix().to_owned();
    // 2 x 22 digits would hold both halves; the leading digit of the second half carries under 4 bits and is cut.
    text.push_str(&base62(random[0], 22));
    text.push_str(&base62(random[1], 21));
    let sum = checksum(&text);
    text + &sum
}

/// Whether `text` has the form of a token: known prefix, length and checksum. Says nothing about its validity.
pub fn well_formed(text: &str) -> bool {
    let kinds = [Kind::Admin, Kind::Api, Kind::Registration, Kind::Agent, Kind::Ci];
    let known =
        kinds.iter().any(|kind| text.starts_with(kind.prefix()) && text.len() == kind.prefix().len() + 49);
    known && text.is_ascii() && checksum(&text[..text.len() - 6]) == text[text.len() - 6..]
}

fn base62(mut number: u128, digits: usize) -> String {
    let mut text = vec![0; digits];
    for digit in text.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    String::from_utf8(text).expect("base 62 digits are ASCII")
}

fn checksum(text: &str) -> String {
    // CRC-32 as in IEEE 802.3 (reflected polynomial 0xEDB88320).
    let crc = text.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    });
    base62(u128::from(!crc), 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_well_formed_and_a_typo_is_not() {
        let secret = secret(Kind::Api, [u128::MAX, 12345]);
        assert!(secret.starts_with("qgj_pat_") && well_formed(&secret));
        let typo = secret.replace("12", "21");
        let swapped = if typo == secret { format!("{}x", &secret[..secret.len() - 1]) } else { typo };
        assert!(!well_formed(&swapped));
        assert!(!well_formed("qgj_pat_") && !well_formed(""));
    }

    #[test]
    fn the_checksum_is_the_well_known_crc() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(checksum("123456789"), base62(0xCBF4_3926, 6));
    }
}
