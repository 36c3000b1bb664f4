use sqlx::postgres::PgSslMode;

use super::*;
use crate::store::database_url::{DatabaseUrl, Target};

fn read(text: &str) -> Result<PostgresUrl, InvalidDatabaseUrl> {
    let url = DatabaseUrl::parse(text)?;
    let Target::Postgres(postgres) = url.target() else {
        panic!("{text}")
    };
    Ok(postgres.clone())
}

fn driver(url: &str) -> PgConnectOptions {
    PgConnectOptions::try_from(&url.parse::<AnyConnectOptions>().unwrap()).unwrap()
}

/// Examples of docs/SCALING.md, with the resulting TLS mode.
const PROVIDERS: &[(&str, &str, &str)] = &[
    (
        "Neon",
        "postgresql://u:p@ep-x-1.eu-central-1.aws.neon.tech/db?sslmode=require&channel_binding=require",
        "verify-full",
    ),
    (
        "Supabase, direct",
        "postgresql://postgres:p@db.abcdefgh.supabase.co:5432/postgres",
        "verify-full",
    ),
    (
        "Supabase, session pooler",
        "postgres://postgres.abcdefgh:p@aws-0-eu-central-1.pooler.supabase.com:5432/postgres?sslmode=require&supa=base-pooler.x",
        "require",
    ),
    (
        "Amazon RDS",
        "postgres://u:p@db.abc123.eu-west-1.rds.amazonaws.com:5432/db?sslmode=verify-full&sslrootcert=/etc/ssl/rds.pem",
        "verify-full",
    ),
    (
        "Azure",
        "postgres://u%40srv:p@srv.postgres.database.azure.com:5432/db?sslmode=require",
        "require",
    ),
    (
        "Google Cloud SQL, proxy",
        "postgres://u:p@/db?host=/cloudsql/project:region:instance",
        "prefer",
    ),
    (
        "Google Cloud SQL, address",
        "postgres://u:p@10.1.2.3:5432/db?sslmode=verify-ca&sslrootcert=ca.pem&sslcert=c.pem&sslkey=k.pem",
        "verify-ca",
    ),
    (
        "Heroku",
        "postgres://u:p@ec2-1-2-3-4.compute-1.amazonaws.com:5432/db?sslmode=require",
        "require",
    ),
    (
        "Aiven",
        "postgres://avnadmin:p@pg-x.aivencloud.com:12345/defaultdb?sslmode=require",
        "require",
    ),
    (
        "DigitalOcean",
        "postgresql://doadmin:p@db-x.b.db.ondigitalocean.com:25060/defaultdb?sslmode=require",
        "require",
    ),
    (
        "Render",
        "postgresql://u:p@dpg-x-a.frankfurt-postgres.render.com/db",
        "verify-full",
    ),
    (
        "Crunchy Bridge",
        "postgres://u:p@p.x.db.postgresbridge.com:5432/postgres?sslmode=verify-full&sslrootcert=system",
        "verify-full",
    ),
    (
        "Prisma's form",
        "postgresql://u:p@db.internal:6432/db?sslmode=verify-full&pgbouncer=true&connection_limit=1",
        "verify-full",
    ),
];

#[test]
fn what_providers_hand_out_is_understood_and_documented() {
    let document = include_str!("../../../../../docs/SCALING.md");
    for (provider, text, mode) in PROVIDERS {
        let url = read(text).unwrap_or_else(|error| panic!("{provider}: {error}"));
        let [host] = url.hosts.as_slice() else {
            panic!("{provider}")
        };
        let wanted: PgSslMode = mode.parse().unwrap();
        let found = driver(host);
        assert_eq!(
            format!("{:?}", found.get_ssl_mode()),
            format!("{wanted:?}"),
            "{provider}"
        );
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| {provider} |")))
            .unwrap_or_else(|| panic!("{provider} is not in docs/SCALING.md"));
        assert!(row.contains(&format!("`{mode}`")), "{row}");
    }
}

#[test]
fn several_hosts_are_tried_and_one_must_take_writes() {
    for text in [
        "postgres://u:p%2Fq@a.internal:5433,b.internal,[::1]:5434/db?sslmode=require",
        "postgres://u:p%2Fq@/db?host=a.internal,b.internal,[::1]&port=5433,5432,5434",
    ] {
        let url = read(text).unwrap();
        assert!(url.wants_writes, "{text}");
        let hosts: Vec<(String, u16)> = url
            .hosts
            .iter()
            .map(|url| (driver(url).get_host().to_owned(), driver(url).get_port()))
            .collect();
        let expected = [("a.internal", 5433), ("b.internal", 5432), ("[::1]", 5434)];
        assert_eq!(
            hosts,
            expected.map(|(host, port)| (host.to_owned(), port)),
            "{text}"
        );
    }
    assert!(
        !read("postgres://u@h/db?target_session_attrs=any")
            .unwrap()
            .wants_writes
    );
    assert!(
        read("postgres://u@h/db?target_session_attrs=read-write")
            .unwrap()
            .wants_writes
    );
}

#[test]
fn a_server_elsewhere_proves_who_it_is_unless_something_weaker_is_written_down() {
    for (text, mode) in [
        ("postgres://u:p@127.0.0.1/db", "prefer"),
        ("postgres://u:p@[::1]/db", "prefer"),
        ("postgres://u:p@localhost/db", "prefer"),
        ("postgres://u:p@%2Fvar%2Frun%2Fpostgresql/db", "prefer"),
        ("postgres:///db?host=/var/run/postgresql", "prefer"),
        ("postgres://u:p@localhost.example/db", "verify-full"),
        ("postgres://u:p@128.0.0.1/db", "verify-full"),
        ("postgres://u:p@db/db", "verify-full"),
        ("postgres://u:p@127.0.0.1/db?host=db", "verify-full"),
        (
            "postgres://u:p@127.0.0.1/db?hostaddr=10.0.0.1",
            "verify-full",
        ),
        ("postgres://u:p@db/db?sslmode=prefer", "prefer"),
        ("postgres://u:p@db/db?sslmode=disable", "disable"),
        (
            "postgres://u:p@db/db?sslmode=require&sslrootcert=ca.pem",
            "verify-ca",
        ),
        (
            "postgres://u:p@127.0.0.1/db?channel_binding=require",
            "verify-full",
        ),
    ] {
        let url = read(text).unwrap();
        let wanted: PgSslMode = mode.parse().unwrap();
        assert_eq!(
            format!("{:?}", driver(&url.hosts[0]).get_ssl_mode()),
            format!("{wanted:?}"),
            "{text}"
        );
    }
}

#[test]
fn a_parameter_works_has_no_effect_and_says_so_or_is_refused_by_name() {
    let base = "postgres://u:hunter2@db.internal/keys?";
    for (parameters, seconds, remarks) in [
        ("connect_timeout=10", 10, 0),
        ("connect_timeout=0", 5, 1),
        ("keepalives=1&keepalives_idle=30&tcp_user_timeout=9", 5, 3),
        ("client_encoding=utf8&load_balance_hosts=disable", 5, 0),
        ("channel_binding=prefer&sslmode=require", 5, 1),
        ("options=-c%20search_path%3Dkeys", 5, 0),
    ] {
        let url = read(&format!("{base}{parameters}")).unwrap();
        assert_eq!(
            (url.connect_timeout.as_secs(), url.remarks.len()),
            (seconds, remarks),
            "{parameters}"
        );
    }
    for (parameters, named) in [
        ("sslcrl=x", "sslcrl"),
        ("service=x", "service"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("connect_timeout=soon", "connect_timeout"),
        ("connect_timeout=-1", "connect_timeout"),
        ("sslmode=perhaps", "sslmode"),
        ("sslmode=disable&channel_binding=require", "sslmode"),
        ("sslmode=prefer&sslrootcert=system", "sslmode"),
        ("hostaddr=db", "hostaddr"),
        ("host=a,b&port=1,2,3", "port"),
        ("client_encoding=latin1", "client_encoding"),
        ("sslnegotiation=direct", "sslnegotiation"),
    ] {
        let Err(error) = read(&format!("{base}{parameters}")) else {
            panic!("{parameters} is taken")
        };
        assert!(error.to_string().contains(named), "{parameters}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    // The parameter name is part of an unencoded password.
    let Err(error) = read("postgres://u:hun?ter2=x@db/keys") else {
        panic!("it is taken")
    };
    assert!(!error.to_string().contains("ter2"), "{error}");
}
