//! How values are stored. What cannot be read back is an error of its column.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use qgjob_core::model::device;
use qgjob_core::model::sha256::Sha256;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::transaction::{Stop, Verb};

type Coded<T> = Result<T, Box<dyn Error + Sync + Send>>;

/// The 128 bits of an id, as a uuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bin(pub u128);
/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub Timestamp);
/// A number. None of qgjob's is larger than a bigint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Num(pub i64);
/// A word or name by its text.
#[derive(Debug)]
pub(super) struct Word<T>(pub T);
/// Text of others. PostgreSQL keeps any but the character 0, which is replaced.
#[derive(Debug)]
pub(super) struct Text<T>(pub T);
/// Anything as JSON.
#[derive(Debug)]
pub(super) struct Json<T>(pub T);
/// A SHA-256.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digest(pub Sha256);
/// Several ids, one after the other; none is NULL.
#[derive(Debug)]
pub(super) struct Ids(pub Vec<device::Id>);

/// A number to be stored.
pub(super) fn num(number: impl TryInto<i64>) -> Num {
    Num(number.try_into().unwrap_or(i64::MAX))
}

impl ToSql for Bin {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }
    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Bin {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Coded<Self> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }
    accepts!(UUID);
}

impl ToSql for At {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        self.0.as_millisecond().to_sql(ty, out)
    }
    accepts!(INT8);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for At {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Coded<Self> {
        Ok(Self(Timestamp::from_millisecond(i64::from_sql(ty, raw)?)?))
    }
    accepts!(INT8);
}

impl ToSql for Num {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        self.0.to_sql(ty, out)
    }
    accepts!(INT8);
    to_sql_checked!();
}

impl<T: Display + std::fmt::Debug> ToSql for Word<T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        self.0.to_string().to_sql(ty, out)
    }
    accepts!(TEXT);
    to_sql_checked!();
}

impl<'a, T: FromStr> FromSql<'a> for Word<T>
where
    T::Err: Error + Send + Sync + 'static,
{
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Coded<Self> {
        Ok(Self(<&str>::from_sql(ty, raw)?.parse()?))
    }
    accepts!(TEXT);
}

impl<T: AsRef<str> + std::fmt::Debug> ToSql for Text<T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        let text = self.0.as_ref();
        match text.contains('\0') {
            true => text.replace('\0', "\u{fffd}").to_sql(ty, out),
            false => text.to_sql(ty, out),
        }
    }
    accepts!(TEXT);
    to_sql_checked!();
}

impl<T: Serialize + std::fmt::Debug> ToSql for Json<T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        serde_json::to_string(&self.0)?.to_sql(ty, out)
    }
    accepts!(TEXT);
    to_sql_checked!();
}

impl<'a, T: DeserializeOwned> FromSql<'a> for Json<T> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Coded<Self> {
        Ok(Self(serde_json::from_str(<&str>::from_sql(ty, raw)?)?))
    }
    accepts!(TEXT);
}

impl ToSql for Digest {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        self.0.0.as_slice().to_sql(ty, out)
    }
    accepts!(BYTEA);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Digest {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Coded<Self> {
        Ok(Self(Sha256(raw.try_into()?)))
    }
    accepts!(BYTEA);
}

impl ToSql for Ids {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Coded<IsNull> {
        if self.0.is_empty() {
            return Ok(IsNull::Yes);
        }
        self.0.iter().for_each(|id| out.extend_from_slice(&id.0.to_be_bytes()));
        Ok(IsNull::No)
    }
    accepts!(BYTEA);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Ids {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Coded<Self> {
        let (ids, rest) = raw.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(format!("{} bytes are no ids", raw.len()).into());
        }
        Ok(Self(ids.iter().map(|bytes| device::Id(u128::from_be_bytes(*bytes))).collect()))
    }
    fn from_sql_null(_: &Type) -> Coded<Self> {
        Ok(Self(Vec::new()))
    }
    accepts!(BYTEA);
}

/// A column as it is.
pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: &str) -> Verb<T> {
    Ok(row.try_get(column)?)
}

/// A number.
pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Verb<T> {
    let wide: i64 = row.try_get(column)?;
    T::try_from(wide).map_err(|_| Stop::Corrupt(format!("{wide} is no good {column}")))
}

pub(super) fn opt_number<T: TryFrom<i64>>(row: &Row, column: &str) -> Verb<Option<T>> {
    let wide: Option<i64> = row.try_get(column)?;
    let narrow =
        wide.map(|wide| T::try_from(wide).map_err(|_| Stop::Corrupt(format!("{wide} is no good {column}"))));
    narrow.transpose()
}

pub(super) fn bin(row: &Row, column: &str) -> Verb<u128> {
    Ok(row.try_get::<_, Bin>(column)?.0)
}

pub(super) fn opt_bin(row: &Row, column: &str) -> Verb<Option<u128>> {
    Ok(row.try_get::<_, Option<Bin>>(column)?.map(|id| id.0))
}

pub(super) fn at(row: &Row, column: &str) -> Verb<Timestamp> {
    Ok(row.try_get::<_, At>(column)?.0)
}

pub(super) fn opt_at(row: &Row, column: &str) -> Verb<Option<Timestamp>> {
    Ok(row.try_get::<_, Option<At>>(column)?.map(|at| at.0))
}

pub(super) fn word<T: FromStr>(row: &Row, column: &str) -> Verb<T>
where
    T::Err: Error + Send + Sync + 'static,
{
    Ok(row.try_get::<_, Word<T>>(column)?.0)
}

pub(super) fn opt_word<T: FromStr>(row: &Row, column: &str) -> Verb<Option<T>>
where
    T::Err: Error + Send + Sync + 'static,
{
    Ok(row.try_get::<_, Option<Word<T>>>(column)?.map(|word| word.0))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Verb<T> {
    Ok(row.try_get::<_, Json<T>>(column)?.0)
}

pub(super) fn opt_json<T: DeserializeOwned>(row: &Row, column: &str) -> Verb<Option<T>> {
    Ok(row.try_get::<_, Option<Json<T>>>(column)?.map(|json| json.0))
}

pub(super) fn digest(row: &Row, column: &str) -> Verb<Sha256> {
    Ok(row.try_get::<_, Digest>(column)?.0)
}
