//! `$1`, `$2`: which there are in a statement, and the values that a Bind has for them.

use pgwire::api::Type;
use pgwire::api::portal::Portal;
use pgwire::error::PgWireResult;
use pgwire::messages::extendedquery::Bind;
use rusqlite::Statement;
use rusqlite::types::Value;

use crate::failure::Failure;
use crate::worker::Prepared;

/// The types of a statement's parameters: what the client says, else the cast behind it, else text.
pub(crate) fn types(statement: &Statement<'_>, said: &[Option<Type>]) -> Result<Vec<Type>, Failure> {
    let mut types = vec![None; said.len()];
    types.clone_from_slice(said);
    for index in 1..=statement.parameter_count() {
        let (number, cast) = parse(statement.parameter_name(index))?;
        if types.len() < number {
            types.resize(number, None);
        }
        types[number - 1] = types[number - 1].take().or(cast);
    }
    Ok(types.into_iter().map(|kind| kind.unwrap_or(Type::TEXT)).collect())
}

/// Binds each to the value with its number.
pub(crate) fn bind(statement: &mut Statement<'_>, values: &[Value]) -> Result<(), Failure> {
    for index in 1..=statement.parameter_count() {
        let (number, _) = parse(statement.parameter_name(index))?;
        let value =
            values.get(number - 1).ok_or_else(|| Failure::new("42P02", format!("there is no parameter ${number}")))?;
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}

/// Whether a Bind fits its statement.
pub(crate) fn check(bind: &Bind, prepared: &Prepared) -> Result<(), Failure> {
    let (given, wanted) = (bind.parameters.len(), prepared.parameters.len());
    if given != wanted {
        let message = format!("bind message supplies {given} parameters, but prepared statement requires {wanted}");
        return Err(Failure::new("08P01", message));
    }
    let formats = [
        ("parameter", bind.parameter_format_codes.as_slice(), given),
        ("result", bind.result_column_format_codes.as_slice(), prepared.columns.len()),
    ];
    for (what, codes, count) in formats {
        if codes.len() > 1 && codes.len() != count {
            let message = format!("bind message has {} {what} formats but {count} {what}s", codes.len());
            return Err(Failure::new("08P01", message));
        }
    }
    Ok(())
}

/// A portal's values, as SQLite's.
pub(crate) fn values(portal: &Portal<std::sync::Arc<Prepared>>) -> PgWireResult<Vec<Value>> {
    let types = &portal.statement.statement.parameters;
    types.iter().enumerate().map(|(index, kind)| value(portal, index, kind)).collect()
}

fn value(portal: &Portal<std::sync::Arc<Prepared>>, index: usize, kind: &Type) -> PgWireResult<Value> {
    let value = match *kind {
        Type::BOOL => portal.parameter::<bool>(index, kind)?.map(|is| Value::Integer(i64::from(is))),
        Type::INT2 => portal.parameter::<i16>(index, kind)?.map(|integer| Value::Integer(i64::from(integer))),
        Type::INT4 => portal.parameter::<i32>(index, kind)?.map(|integer| Value::Integer(i64::from(integer))),
        Type::INT8 => portal.parameter::<i64>(index, kind)?.map(Value::Integer),
        Type::FLOAT4 => portal.parameter::<f32>(index, kind)?.map(|float| Value::Real(f64::from(float))),
        Type::FLOAT8 => portal.parameter::<f64>(index, kind)?.map(Value::Real),
        Type::BYTEA => portal.parameter::<Vec<u8>>(index, kind)?.map(Value::Blob),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
            portal.parameter::<String>(index, kind)?.map(Value::Text)
        }
        _ if portal.parameter_format.is_binary(index) => {
            let message = format!("parameter ${} of type {} in binary format", index + 1, kind.name());
            return Err(Failure::new("0A000", message).into());
        }
        // A date, a numeric: SQLite has their text.
        _ => portal.parameter::<String>(index, &Type::TEXT)?.map(|text| match *kind {
            Type::NUMERIC => number(text),
            _ => Value::Text(text),
        }),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// A value of this type to try a statement with.
pub(crate) fn sample(kind: &Type) -> Value {
    match *kind {
        Type::BOOL | Type::INT2 | Type::INT4 | Type::INT8 => Value::Integer(1),
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => Value::Real(1.0),
        Type::BYTEA => Value::Blob(Vec::new()),
        _ => Value::Text(String::new()),
    }
}

/// The number and the cast of `$1::int8`, which is one name to SQLite.
fn parse(name: Option<&str>) -> Result<(usize, Option<Type>), Failure> {
    let malformed = || Failure::new("42601", "a parameter is $1, $2 and so on");
    let name = name.and_then(|name| name.strip_prefix('$')).ok_or_else(malformed)?;
    let (number, cast) = match name.split_once("::") {
        Some((number, cast)) => (number, Some(cast)),
        None => (name, None),
    };
    // What a Bind can count.
    let number = number.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(malformed)?;
    Ok((usize::from(number), cast.map(named).transpose()?))
}

fn named(cast: &str) -> Result<Type, Failure> {
    let kind = match cast.to_ascii_lowercase().as_str() {
        "int2" | "smallint" => Type::INT2,
        "int" | "int4" | "integer" => Type::INT4,
        "int8" | "bigint" => Type::INT8,
        "float4" | "real" => Type::FLOAT4,
        "float8" | "double" => Type::FLOAT8,
        "bool" | "boolean" => Type::BOOL,
        "bytea" => Type::BYTEA,
        "text" => Type::TEXT,
        "varchar" => Type::VARCHAR,
        _ => return Err(Failure::new("42704", format!("type \"{cast}\" does not exist"))),
    };
    Ok(kind)
}

fn number(text: String) -> Value {
    match (text.parse(), text.parse()) {
        (Ok(integer), _) => Value::Integer(integer),
        (_, Ok(float)) => Value::Real(float),
        _ => Value::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types_of(sql: &str, said: &[Option<Type>]) -> Result<Vec<Type>, &'static str> {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        types(&connection.prepare(sql).unwrap(), said).map_err(|failure| failure.code)
    }

    #[test]
    fn the_client_knows_a_type_better_than_a_cast_and_both_better_than_nobody() {
        assert_eq!(types_of("select $2, $1::int8, $3", &[]), Ok(vec![Type::INT8, Type::TEXT, Type::TEXT]));
        assert_eq!(types_of("select $1::int8", &[Some(Type::INT4)]), Ok(vec![Type::INT4]));
        assert_eq!(types_of("select $1 + $1::int", &[]), Ok(vec![Type::INT4]));
    }

    #[test]
    fn a_parameter_that_is_not_numbered_is_refused() {
        assert_eq!(types_of("select ?", &[]), Err("42601"));
        assert_eq!(types_of("select :name", &[]), Err("42601"));
        assert_eq!(types_of("select $0", &[]), Err("42601"));
        assert_eq!(types_of("select $1::nothing", &[]), Err("42704"));
    }

    #[test]
    fn a_value_goes_to_every_place_with_its_number() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare("select $2 || $1 || $2").unwrap();
        bind(&mut statement, &[Value::Text("a".to_owned()), Value::Text("b".to_owned())]).unwrap();
        let mut rows = statement.raw_query();
        assert_eq!(rows.next().unwrap().unwrap().get::<_, String>(0).unwrap(), "bab");
    }
}
