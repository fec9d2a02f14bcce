//! Whom to let in without a stored token. A pipeline shows an *id-token*, in which its CI service, the *issuer*, vouches for
//! what it is; an org's *policies* say which of them are let in.
//!
//! The order of the checks: [`id_token`] (its form, before anything is believed), the signature (by the server, which has
//! the issuer's keys), [`claims`] (for whom, until when), [`admission`] (the org's policies). What it all is for:
//! `docs/KEYLESS.md`.

pub mod admission;
pub mod claims;
mod glob;
pub mod id_token;
mod json;
pub mod renewal;
