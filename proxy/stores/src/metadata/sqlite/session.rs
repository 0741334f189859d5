//! The one way to execute a statement: prepared once per connection, counted every time.

use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use super::super::operation::{Operation, SqlStatements};

/// A transaction on behalf of one operation.
pub(super) struct Session<'a> {
    connection: &'a Connection,
    operation: Operation,
    statements: &'a SqlStatements,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        operation: Operation,
        statements: &'a SqlStatements,
    ) -> Self {
        Session { connection, operation, statements }
    }

    /// Executes a statement that returns no row; how many rows it changed.
    pub(super) fn execute(&self, sql: &str, values: impl Params) -> rusqlite::Result<usize> {
        self.statements.count(self.operation);
        self.connection.prepare_cached(sql)?.execute(values)
    }

    /// Its one row.
    pub(super) fn row<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.statements.count(self.operation);
        self.connection.prepare_cached(sql)?.query_row(values, read)
    }

    /// Its first row, if there is any.
    pub(super) fn find<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.row(sql, values, read).optional()
    }

    /// All its rows.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.statements.count(self.operation);
        self.connection.prepare_cached(sql)?.query_map(values, read)?.collect()
    }
    /// Its rows with the text in their first column; a row that makes no sense has nothing else (RS-88).
    pub(super) fn page<T>(
        &self,
        (table, sql): (&str, &str),
        values: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<(String, Option<T>)>> {
        self.rows(sql, values, |row| Ok((row.get(0)?, self.sensible(read(row), table)?)))
    }

    /// Its first row, if there is any that makes sense.
    pub(super) fn sensible_row<T>(
        &self,
        (table, sql): (&str, &str),
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        Ok(self.find(sql, values, |row| self.sensible(read(row), table))?.flatten())
    }

    fn sensible<T>(&self, read: rusqlite::Result<T>, table: &str) -> rusqlite::Result<Option<T>> {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        match read {
            Err(
                error @ (FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)),
            ) => Ok(self.statements.sensible(Err(error.to_string()), table)),
            read => read.map(Some),
        }
    }
}
