//! SQLite's values as PostgreSQL's: the type of a column, and what a value looks like on the wire.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldFormat;
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};
use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use crate::failure::Failure;

/// A result's column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// `None` for an expression of which no value is known yet; text, if none ever is.
    pub(crate) kind: Option<Type>,
}

impl Column {
    pub(crate) fn text(name: impl Into<String>) -> Column {
        Column { name: name.into(), kind: Some(Type::TEXT) }
    }

    pub(crate) fn all_of(statement: &Statement<'_>) -> Vec<Column> {
        let column = |column: rusqlite::Column<'_>| Column {
            name: column.name().to_owned(),
            kind: column.decl_type().and_then(declared),
        };
        statement.columns().map(column).collect()
    }

    fn kind(&self) -> &Type {
        self.kind.as_ref().unwrap_or(&Type::TEXT)
    }
}

/// Gives the columns that have no type that of their value in this row.
pub(crate) fn settle(columns: &mut [Column], row: &Row<'_>) {
    for (index, column) in columns.iter_mut().enumerate() {
        if column.kind.is_none() {
            column.kind = match row.get_ref(index) {
                Ok(ValueRef::Integer(_)) => Some(Type::INT8),
                Ok(ValueRef::Real(_)) => Some(Type::FLOAT8),
                Ok(ValueRef::Text(_)) => Some(Type::TEXT),
                Ok(ValueRef::Blob(_)) => Some(Type::BYTEA),
                Ok(ValueRef::Null) | Err(_) => None,
            };
        }
    }
}

/// The type for a declared one. SQLite's integers have 64 bits, whatever their name; a type that it doesn't keep to
/// (`numeric`) is that of the value.
fn declared(declaration: &str) -> Option<Type> {
    let name = declaration.split('(').next().unwrap_or_default().trim().to_ascii_uppercase();
    let kind = match name.as_str() {
        "INT" | "INTEGER" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "BIGINT" | "INT2" | "INT4" | "INT8" | "SERIAL"
        | "BIGSERIAL" => Type::INT8,
        "REAL" | "FLOAT" | "DOUBLE" | "DOUBLE PRECISION" | "FLOAT4" | "FLOAT8" => Type::FLOAT8,
        "TEXT" | "CLOB" | "VARCHAR" | "CHAR" | "CHARACTER" | "CHARACTER VARYING" | "DATE" | "TIME" | "TIMESTAMP"
        | "TIMESTAMPTZ" | "UUID" | "JSON" | "JSONB" => Type::TEXT,
        "BLOB" | "BYTEA" => Type::BYTEA,
        "BOOL" | "BOOLEAN" => Type::BOOL,
        _ => return None,
    };
    Some(kind)
}

pub(crate) fn description(columns: &[Column], formats: &Format) -> RowDescription {
    let field = |(index, column): (usize, &Column)| {
        let kind = column.kind();
        let size = match *kind {
            Type::INT8 | Type::FLOAT8 => 8,
            Type::BOOL => 1,
            _ => -1,
        };
        FieldDescription::new(column.name.clone(), 0, 0, kind.oid(), size, -1, formats.format_for(index).value())
    };
    RowDescription::new(columns.iter().enumerate().map(field).collect())
}

/// A row on the wire.
pub(crate) fn row(row: &Row<'_>, columns: &[Column], formats: &Format) -> Result<DataRow, Failure> {
    let mut buffer = BytesMut::new();
    for (index, column) in columns.iter().enumerate() {
        field(row.get_ref(index)?, column, formats.format_for(index), &mut buffer)?;
    }
    let fields = i16::try_from(columns.len()).map_err(|_| Failure::new("54011", "too many columns"))?;
    Ok(DataRow::new(buffer, fields))
}

/// A row with one text.
pub(crate) fn text_row(text: &str) -> DataRow {
    let mut buffer = BytesMut::new();
    sized(&mut buffer, |buffer| buffer.put_slice(text.as_bytes()));
    DataRow::new(buffer, 1)
}

/// A value with its length before it; a length of -1 is NULL.
fn field(value: ValueRef<'_>, column: &Column, format: FieldFormat, buffer: &mut BytesMut) -> Result<(), Failure> {
    if value == ValueRef::Null {
        buffer.put_i32(-1);
        return Ok(());
    }
    let kind = column.kind();
    if format == FieldFormat::Text || *kind == Type::TEXT {
        sized(buffer, |buffer| text(value, kind, buffer));
        return Ok(());
    }
    let mismatch = || {
        let message = format!("column \"{}\" is {} and has another value in this row", column.name, kind.name());
        Failure::new("42804", message).hint("SQLite's columns take any value; ask for the text format, or CAST.")
    };
    match *kind {
        Type::INT8 => {
            let integer = integer(value).ok_or_else(mismatch)?;
            sized(buffer, |buffer| buffer.put_i64(integer));
        }
        Type::FLOAT8 => {
            let float = float(value).ok_or_else(mismatch)?;
            sized(buffer, |buffer| buffer.put_f64(float));
        }
        Type::BOOL => {
            let integer = integer(value).ok_or_else(mismatch)?;
            sized(buffer, |buffer| buffer.put_u8(u8::from(integer != 0)));
        }
        _ => match value {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => sized(buffer, |buffer| buffer.put_slice(bytes)),
            _ => return Err(mismatch()),
        },
    }
    Ok(())
}

/// What `write` appends, with its length before it.
fn sized(buffer: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let begin = buffer.len();
    buffer.put_i32(0);
    write(buffer);
    let length = i32::try_from(buffer.len() - begin - 4)
        .expect("SQLite's values are far below 1 GiB: MAX_VALUE, doubled in hex");
    buffer[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(value: ValueRef<'_>, kind: &Type, buffer: &mut BytesMut) {
    match value {
        ValueRef::Null => {}
        ValueRef::Integer(integer) if *kind == Type::BOOL => buffer.put_u8(if integer == 0 { b'f' } else { b't' }),
        ValueRef::Integer(integer) => write!(buffer, "{integer}").expect("a buffer grows"),
        ValueRef::Real(float) => buffer.put_slice(float_text(float).as_bytes()),
        ValueRef::Text(bytes) if *kind == Type::BYTEA => hex(bytes, buffer),
        ValueRef::Text(bytes) => buffer.put_slice(String::from_utf8_lossy(bytes).as_bytes()),
        ValueRef::Blob(bytes) => hex(bytes, buffer),
    }
}

/// PostgreSQL's text of a float8: the shortest that reads back as the same, with an exponent where `%g` has one.
fn float_text(float: f64) -> String {
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{float:e}");
    match scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..15).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => float.to_string(),
    }
}

fn hex(bytes: &[u8], buffer: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    buffer.put_slice(b"\\x");
    for byte in bytes {
        buffer.put_u8(DIGITS[usize::from(byte >> 4)]);
        buffer.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(integer) => Some(integer),
        // Exact, or it is another value.
        ValueRef::Real(float) if float as i64 as f64 == float => Some(float as i64),
        _ => None,
    }
}

fn float(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Integer(integer) => Some(integer as f64),
        ValueRef::Real(float) => Some(float),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: ValueRef<'_>, kind: Type, format: FieldFormat) -> Vec<u8> {
        let mut buffer = BytesMut::new();
        let column = Column { name: "c".to_owned(), kind: Some(kind) };
        field(value, &column, format, &mut buffer).unwrap();
        assert_eq!(usize::try_from(i32::from_be_bytes(buffer[..4].try_into().unwrap())).unwrap(), buffer.len() - 4);
        buffer[4..].to_vec()
    }

    #[test]
    fn a_declared_type_is_postgresqls_or_left_to_the_value() {
        for (declaration, kind) in [
            ("integer", Some(Type::INT8)),
            ("SMALLINT", Some(Type::INT8)),
            ("double precision", Some(Type::FLOAT8)),
            ("varchar(20)", Some(Type::TEXT)),
            ("bytea", Some(Type::BYTEA)),
            ("Boolean", Some(Type::BOOL)),
            ("numeric(10, 2)", None),
            ("point", None),
        ] {
            assert_eq!(declared(declaration), kind, "{declaration}");
        }
    }

    #[test]
    fn floats_look_like_postgresqls() {
        for (float, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float_text(float), text);
        }
    }

    #[test]
    fn a_value_has_the_bytes_of_its_columns_type() {
        assert_eq!(shown(ValueRef::Integer(1), Type::BOOL, FieldFormat::Text), b"t");
        assert_eq!(shown(ValueRef::Integer(1), Type::BOOL, FieldFormat::Binary), [1]);
        assert_eq!(shown(ValueRef::Integer(2), Type::FLOAT8, FieldFormat::Binary), 2_f64.to_be_bytes());
        assert_eq!(shown(ValueRef::Real(2.0), Type::INT8, FieldFormat::Binary), 2_i64.to_be_bytes());
        assert_eq!(shown(ValueRef::Blob(&[1, 0xab]), Type::BYTEA, FieldFormat::Text), b"\\x01ab");
        assert_eq!(shown(ValueRef::Integer(7), Type::TEXT, FieldFormat::Binary), b"7");
    }

    #[test]
    fn a_value_that_does_not_fit_its_column_is_an_error_in_binary_and_text_in_text() {
        let column = Column { name: "c".to_owned(), kind: Some(Type::INT8) };
        let mut buffer = BytesMut::new();
        let failure = field(ValueRef::Text(b"x"), &column, FieldFormat::Binary, &mut buffer).unwrap_err();
        assert_eq!(failure.code, "42804");
        assert_eq!(shown(ValueRef::Text(b"x"), Type::INT8, FieldFormat::Text), b"x");
    }
}
