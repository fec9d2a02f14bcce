//! Whole batches in one statement: each column travels as an array.

use tokio_postgres::types::ToSql;

/// A statement with its parameters, to be sent.
pub(super) struct Statement {
    pub sql: String,
    pub params: Vec<Box<dyn ToSql + Sync + Send>>,
}

struct Column {
    name: &'static str,
    sql_type: &'static str,
    values: Box<dyn ToSql + Sync + Send>,
}

/// Rows as columns.
pub(super) struct Columns<'r, R> {
    table: &'static str,
    rows: &'r [&'r R],
    columns: Vec<Column>,
}

impl<'r, R> Columns<'r, R> {
    pub(super) fn of(table: &'static str, rows: &'r [&'r R]) -> Self {
        Self { table, rows, columns: Vec::new() }
    }

    /// A column of this type, with its value in each row.
    pub(super) fn add<V: ToSql + Sync + Send + 'static>(
        mut self,
        name: &'static str,
        sql_type: &'static str,
        value: impl Fn(&R) -> V,
    ) -> Self {
        let values: Vec<V> = self.rows.iter().map(|row| value(row)).collect();
        self.columns.push(Column { name, sql_type, values: Box::new(values) });
        self
    }

    fn names(&self, prefix: &str) -> String {
        let names: Vec<String> =
            self.columns.iter().map(|column| format!("{prefix}{}", column.name)).collect();
        names.join(", ")
    }

    /// `UNNEST(…) AS u(…)`.
    fn unnest(&self) -> String {
        let arrays = (1..).zip(&self.columns).map(|(at, column)| format!("${at}::{}[]", column.sql_type));
        let arrays: Vec<String> = arrays.collect();
        format!("UNNEST({}) AS u({})", arrays.join(", "), self.names(""))
    }

    fn statement(self, sql: String) -> Statement {
        Statement { sql, params: self.columns.into_iter().map(|column| column.values).collect() }
    }

    /// `INSERT`, and `rest` after it.
    pub(super) fn insert(self, rest: &str) -> Option<Statement> {
        self.insert_with(&[], rest)
    }

    /// `INSERT` in the rows' order, in which some columns are computed from what was given: `(name, expression)`.
    pub(super) fn insert_with(self, computed: &[(&str, &str)], rest: &str) -> Option<Statement> {
        if self.rows.is_empty() {
            return None;
        }
        let values: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let other = computed.iter().find(|(name, _)| *name == column.name);
                other.map_or_else(|| format!("u.{}", column.name), |(_, expression)| (*expression).to_owned())
            })
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} {rest}",
            self.table,
            self.names(""),
            values.join(", "),
            self.unnest()
        );
        Some(self.statement(sql))
    }

    /// `UPDATE` of all columns but `key`, by which the rows are found.
    pub(super) fn update(self, key: &str) -> Option<Statement> {
        if self.rows.is_empty() {
            return None;
        }
        let others = self.columns.iter().filter(|column| column.name != key);
        let set: Vec<String> = others.map(|column| format!("{0} = u.{0}", column.name)).collect();
        let sql = format!(
            "UPDATE {} AS t SET {} FROM {} WHERE t.{key} = u.{key}",
            self.table,
            set.join(", "),
            self.unnest()
        );
        Some(self.statement(sql))
    }

    /// `DELETE` of the rows that have these values.
    pub(super) fn delete(self) -> Option<Statement> {
        if self.rows.is_empty() {
            return None;
        }
        let sql = format!(
            "DELETE FROM {} WHERE ({}) IN (SELECT {} FROM {})",
            self.table,
            self.names(""),
            self.names("u."),
            self.unnest()
        );
        Some(self.statement(sql))
    }
}
