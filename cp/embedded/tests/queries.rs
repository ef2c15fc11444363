//! Statements and results, in both protocols.

mod common;

use common::{Bare, bind, code, connect, rows, soon, state};
use lastcall_embedded::Engine;
use postgres_protocol::message::frontend;
use tokio_postgres::types::Type;

#[tokio::test]
async fn both_protocols_answer_select_one() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    assert_eq!(rows(&client, "select 1").await, ["1"]);
    assert_eq!(soon(client.query_one("select 1", &[])).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn parameters_of_every_type_come_back_as_they_were() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    let sql = "select $1::int2, $2::int4, $3::int8, $4::float4, $5::float8, $6::text, $7::varchar, $8::bytea, $9::text is null";
    let none: Option<&str> = None;
    let row = soon(
        client
            .query_one(sql, &[&1_i16, &2_i32, &3_i64, &0.5_f32, &0.25_f64, &"ä", &"v", &[0_u8, 255].as_slice(), &none]),
    )
    .await
    .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (1, 2, 3));
    assert_eq!((row.get::<_, f64>(3), row.get::<_, f64>(4)), (0.5, 0.25));
    assert_eq!((row.get::<_, &str>(5), row.get::<_, &str>(6)), ("ä", "v"));
    assert_eq!(row.get::<_, &[u8]>(7), [0, 255]);
    assert_eq!(row.get::<_, i64>(8), 1);
}

#[tokio::test]
async fn parameters_are_known_by_their_number() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    let row = soon(client.query_one("select $2 || $1 || $2", &[&"a", &"b"])).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "bab");
}

#[tokio::test]
async fn a_parameter_has_the_type_that_the_client_names() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    let statement = soon(client.prepare_typed("select $1 + 1", &[Type::INT4])).await.unwrap();
    assert_eq!(soon(client.query_one(&statement, &[&41_i32])).await.unwrap().get::<_, i64>(0), 42);
}

#[tokio::test]
async fn a_text_parameter_that_is_no_number_is_refused() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    bare.send(|buffer| {
        frontend::parse("", "select $1::int8", [], buffer).unwrap();
        let value = |text: &str, buffer: &mut bytes::BytesMut| {
            buffer.extend_from_slice(text.as_bytes());
            Ok(postgres_protocol::IsNull::No)
        };
        assert!(frontend::bind("", "", [0], ["x"], value, [0], buffer).is_ok());
        frontend::execute("", 0, buffer).unwrap();
        frontend::sync(buffer);
    })
    .await;
    assert_eq!(bare.until_ready().await, "1 2 E 22P02 ZI");
}

#[tokio::test]
async fn declared_columns_have_their_types_in_binary_too() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    soon(client.batch_execute("create table t (i int, f double precision, s varchar(9), b blob, y boolean, n int)"))
        .await
        .unwrap();
    let inserted = soon(client.execute("insert into t values (7, 1.5, 's', x'01ff', true, null)", &[])).await.unwrap();
    assert_eq!(inserted, 1);
    let row = soon(client.query_one("select * from t", &[])).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, f64>(1), row.get::<_, &str>(2)), (7, 1.5, "s"));
    assert_eq!((row.get::<_, &[u8]>(3), row.get::<_, bool>(4)), ([1, 255].as_slice(), true));
    assert_eq!(row.get::<_, Option<i64>>(5), None);
    assert_eq!(rows(&client, "select * from t").await, ["7,1.5,s,\\x01ff,t,NULL"]);
}

#[tokio::test]
async fn an_expression_has_the_type_of_its_first_row() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    bare.send(|buffer| frontend::query("select 1 + 1, 0.5, 'a' || 'b', x'01', null", buffer).unwrap()).await;
    let (tag, body) = bare.next().await;
    assert_eq!((tag, body[1]), ('T', 5));
    let mut fields = &body[2..];
    for kind in [Type::INT8, Type::FLOAT8, Type::TEXT, Type::BYTEA, Type::TEXT] {
        // The name and its end, 6 bytes of where it is from, and the type; 8 bytes behind that.
        let name = fields.iter().position(|byte| *byte == 0).unwrap() + 1;
        let oid = u32::from_be_bytes(fields[name + 6..name + 10].try_into().unwrap());
        assert_eq!(Type::from_oid(oid), Some(kind));
        fields = &fields[name + 18..];
    }
    assert_eq!(bare.until_ready().await, "D C SELECT 1 ZI");
}

#[tokio::test]
async fn tags_are_postgresqls() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    assert_eq!(bare.until_ready().await, "ZI");
    for (sql, told) in [
        ("create table t (a int)", "C CREATE TABLE ZI"),
        ("insert into t values (1), (2)", "C INSERT 0 2 ZI"),
        ("insert into t values (3) returning a", "T D C INSERT 0 1 ZI"),
        ("update t set a = a + 1", "C UPDATE 3 ZI"),
        ("delete from t where a = 2", "C DELETE 1 ZI"),
        ("select * from t", "T D D C SELECT 2 ZI"),
        ("select * from t where a = 0", "T C SELECT 0 ZI"),
        ("set timezone to 'UTC'", "C SET ZI"),
        ("show server_version", "T D C SHOW ZI"),
        ("discard all", "C DISCARD ALL ZI"),
        ("deallocate all", "C DEALLOCATE ALL ZI"),
        ("drop table t", "C DROP TABLE ZI"),
        ("", "I ZI"),
        (" ; -- nothing", "I ZI"),
    ] {
        assert_eq!(bare.query(sql).await, told, "{sql}");
    }
}

#[tokio::test]
async fn a_query_of_several_statements_stops_at_the_first_error() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    let sql =
        "create table t (a int); insert into t values (1); insert into nowhere values (1); insert into t values (2)";
    assert_eq!(state(&client, sql).await, "42P01");
    assert_eq!(rows(&client, "select a from t; select 'b;'").await, ["1", "b;"]);
}

#[tokio::test]
async fn errors_have_postgresqls_states_in_both_protocols() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    soon(client.batch_execute("create table t (a integer primary key, b int not null)")).await.unwrap();
    for (sql, expected) in [
        ("selec 1", "42601"),
        ("select * from nowhere", "42P01"),
        ("select missing from t", "42703"),
        ("insert into t values (1, null)", "23502"),
        ("show nothing", "42704"),
        ("select pg_catalog.version()", "0A000"),
        ("attach 'file' as f", "42501"),
        ("pragma journal_mode = delete", "42501"),
    ] {
        assert_eq!(state(&client, sql).await, expected, "{sql}");
        assert_eq!(code(soon(client.execute(sql, &[])).await.unwrap_err()), expected, "{sql}");
    }
    assert_eq!(state(&client, "select $1").await, "42P02");
    assert_eq!(rows(&client, "select 1").await, ["1"]);
}

#[tokio::test]
async fn a_session_knows_itself() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    assert_eq!(rows(&client, "select current_database()").await, ["db"]);
    assert!(rows(&client, "select version()").await[0].starts_with("PostgreSQL 16.0"));
    assert!(rows(&client, "select current_setting('server_version')").await[0].starts_with("16.0"));
    assert!(rows(&client, "select pg_backend_pid()").await[0].parse::<i32>().is_ok());
    assert_eq!(rows(&client, "show application_name").await, ["test"]);
    assert_eq!(rows(&client, "set application_name = 'other'; show application_name").await, ["other"]);
    assert_eq!(rows(&client, "reset application_name; show application_name").await, ["test"]);
    let row = soon(client.query_one("show server_encoding", &[])).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "UTF8");
}

#[tokio::test]
async fn a_client_is_told_the_settings_and_refused_tls() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::open(&engine).await;
    bare.send(frontend::ssl_request).await;
    assert_eq!(bare.byte().await, b'N');
    bare.start().await;
    let mut told = Vec::new();
    loop {
        match bare.next().await {
            ('S', body) => told.push(String::from_utf8(body).unwrap().trim_end_matches('\0').replace('\0', "=")),
            ('Z', _) => break,
            _ => {}
        }
    }
    for setting in [
        "client_encoding=UTF8",
        "server_encoding=UTF8",
        "DateStyle=ISO, MDY",
        "TimeZone=UTC",
        "integer_datetimes=on",
        "standard_conforming_strings=on",
    ] {
        assert!(told.iter().any(|told| told == setting), "{setting}: {told:?}");
    }
    assert!(told.iter().any(|told| told.starts_with("server_version=16.0 ")), "{told:?}");
}

#[tokio::test]
async fn preparing_a_statement_neither_sleeps_nor_runs_for_long() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    for sql in [
        "select pg_sleep(3600), 1",
        "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c",
    ] {
        let statement = soon(client.prepare(sql)).await.unwrap();
        assert_eq!(statement.columns()[0].type_(), &Type::TEXT);
    }
    assert_eq!(rows(&client, "select 1").await, ["1"]);
}

#[tokio::test]
async fn a_statement_without_a_result_is_described_as_one() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    bare.query("create table t (a int)").await;
    for (sql, told) in [("insert into t values ($1)", "1 t n ZI"), ("select a from t", "1 t T ZI"), ("", "1 t n ZI")] {
        bare.send(|buffer| {
            frontend::parse("", sql, [], buffer).unwrap();
            frontend::describe(b'S', "", buffer).unwrap();
            frontend::sync(buffer);
        })
        .await;
        assert_eq!(bare.until_ready().await, told, "{sql}");
    }
}

#[tokio::test]
async fn a_bind_that_does_not_fit_its_statement_is_refused() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    let value = |text: &str, buffer: &mut bytes::BytesMut| {
        buffer.extend_from_slice(text.as_bytes());
        Ok(postgres_protocol::IsNull::No)
    };
    for (formats, values, told) in [
        (vec![], vec!["1", "2"], "1 E 08P01 ZI"),
        (vec![0, 0], vec!["1", "2", "3"], "1 E 08P01 ZI"),
        (vec![0], vec!["1", "2", "3"], "1 2 D C SELECT 1 ZI"),
    ] {
        bare.send(|buffer| {
            frontend::parse("", "select $1, $2, $3", [], buffer).unwrap();
            assert!(frontend::bind("", "", formats, values, value, [], buffer).is_ok());
            frontend::execute("", 0, buffer).unwrap();
            frontend::sync(buffer);
        })
        .await;
        assert_eq!(bare.until_ready().await, told);
    }
    bare.send(|buffer| {
        frontend::parse("", "select 1; select 2", [], buffer).unwrap();
        frontend::sync(buffer);
        frontend::parse("", "values (1, 2, 3)", [], buffer).unwrap();
        assert!(frontend::bind("", "", [], std::iter::empty::<&str>(), value, [1, 1], buffer).is_ok());
        frontend::sync(buffer);
    })
    .await;
    assert_eq!(bare.until_ready().await, "E 42601 ZI");
    assert_eq!(bare.until_ready().await, "1 E 08P01 ZI");
}

#[tokio::test]
async fn a_portal_goes_on_where_it_was_suspended_and_others_may_run_between() {
    let engine = Engine::start().await.unwrap();
    let mut client = connect(&engine).await;
    let transaction = soon(client.transaction()).await.unwrap();
    let sql = "with recursive c(x) as (select 1 union all select x + 1 from c limit 5) select x from c";
    let first = soon(transaction.bind(sql, &[])).await.unwrap();
    let second = soon(transaction.bind(sql, &[])).await.unwrap();
    let mut seen = Vec::new();
    for portal in [&first, &second, &first, &second, &first] {
        let rows = soon(transaction.query_portal(portal, 2)).await.unwrap();
        seen.push(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>());
    }
    assert_eq!(seen, [vec![1, 2], vec![1, 2], vec![3, 4], vec![3, 4], vec![5]]);
    soon(transaction.commit()).await.unwrap();
}

#[tokio::test]
async fn a_portal_ends_with_its_transaction() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    bare.send(|buffer| {
        frontend::parse("", "values (1), (2)", [], buffer).unwrap();
        bind("suspended", buffer);
        bind("bound", buffer);
        frontend::execute("suspended", 1, buffer).unwrap();
        frontend::sync(buffer);
    })
    .await;
    assert_eq!(bare.until_ready().await, "1 2 2 D s ZI");
    for portal in ["suspended", "bound"] {
        bare.send(|buffer| {
            frontend::execute(portal, 1, buffer).unwrap();
            frontend::sync(buffer);
        })
        .await;
        assert_eq!(bare.until_ready().await, "E 34000 ZI", "{portal}");
    }
}

#[tokio::test]
async fn a_portal_that_is_done_or_closed_goes_nowhere() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    bare.query("create table t (a int); begin").await;
    bare.send(|buffer| {
        frontend::parse("", "values (1), (2), (3)", [], buffer).unwrap();
        bind("p", buffer);
        for _ in 0..3 {
            frontend::execute("p", 2, buffer).unwrap();
        }
        bind("p", buffer);
        frontend::execute("p", 2, buffer).unwrap();
        bind("p", buffer);
        frontend::execute("p", 0, buffer).unwrap();
        frontend::sync(buffer);
    })
    .await;
    // The last two begin anew: another Bind replaces the portal.
    let told = "1 2 D D s D C SELECT 1 C SELECT 0 2 D D s 2 D D D C SELECT 3 ZT";
    assert_eq!(bare.until_ready().await, told);
    bare.send(|buffer| {
        frontend::parse("", "insert into t values (1)", [], buffer).unwrap();
        bind("p", buffer);
        frontend::execute("p", 0, buffer).unwrap();
        frontend::execute("p", 0, buffer).unwrap();
        frontend::sync(buffer);
    })
    .await;
    assert_eq!(bare.until_ready().await, "1 2 C INSERT 0 1 E 55000 ZE");
    bare.query("rollback; begin").await;
    bare.send(|buffer| {
        frontend::parse("", "values (1), (2)", [], buffer).unwrap();
        bind("p", buffer);
        frontend::execute("p", 1, buffer).unwrap();
        frontend::close(b'P', "p", buffer).unwrap();
        frontend::execute("p", 1, buffer).unwrap();
        frontend::sync(buffer);
    })
    .await;
    assert_eq!(bare.until_ready().await, "1 2 D s 3 E 34000 ZE");
    bare.query("rollback").await;
    bare.send(|buffer| {
        frontend::parse("", "values (1), (2)", [], buffer).unwrap();
        bind("p", buffer);
        frontend::close(b'P', "p", buffer).unwrap();
        frontend::execute("p", 1, buffer).unwrap();
        frontend::sync(buffer);
    })
    .await;
    assert_eq!(bare.until_ready().await, "1 2 3 E 34000 ZI");
}

#[tokio::test]
async fn suspended_portals_have_a_limit_and_a_closed_one_does_not_count() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    for closed in [true, false] {
        bare.query("begin").await;
        bare.send(|buffer| frontend::parse("", "values (1), (2)", [], buffer).unwrap()).await;
        for number in 0..65 {
            bare.send(|buffer| {
                let name = format!("p{number}");
                bind(&name, buffer);
                frontend::execute(&name, 1, buffer).unwrap();
                if closed {
                    frontend::close(b'P', &name, buffer).unwrap();
                }
            })
            .await;
        }
        bare.send(frontend::sync).await;
        let told = bare.until_ready().await;
        assert!(told.ends_with(if closed { "3 ZT" } else { "E 53400 ZE" }), "{told}");
        bare.query("rollback").await;
    }
}

#[tokio::test]
async fn a_million_rows_arrive_in_order_at_a_client_that_reads_slowly() {
    const ROWS: i64 = 1_000_000;
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    let sql = format!("with recursive c(x) as (select 1 union all select x + 1 from c limit {ROWS}) select x from c");
    bare.send(|buffer| frontend::query(&sql, buffer).unwrap()).await;
    assert_eq!(bare.next().await.0, 'T');
    for row in 1..=ROWS {
        let (tag, body) = bare.next().await;
        assert_eq!((tag, &body[6..]), ('D', row.to_string().as_bytes()));
        if row % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(bare.until_ready().await, format!("C SELECT {ROWS} ZI"));
}

#[tokio::test]
async fn data_is_shared_by_sessions_and_gone_with_the_engine() {
    let engine = Engine::start().await.unwrap();
    soon(connect(&engine).await.batch_execute("create table t (a int)")).await.unwrap();
    assert!(rows(&connect(&engine).await, "select * from t").await.is_empty());
    let other = Engine::start().await.unwrap();
    assert_eq!(state(&connect(&other).await, "select * from t").await, "42P01");
}

#[tokio::test]
async fn dropping_the_engine_ends_its_sessions() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    let sleeping = client.simple_query("select pg_sleep(3600)");
    drop(engine);
    assert!(soon(sleeping).await.is_err());
}
