use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    cluster: String,
    password: Secret,
    grpc: Grpc,
    labels: BTreeMap<String, u32>,
    peers: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grpc {
    port: u16,
    max_connection_age: HumanDuration,
    max_message: ByteSize,
    tls: Option<bool>,
}

impl Default for Sample {
    fn default() -> Sample {
        let (age, size) = (HumanDuration(Duration::from_secs(600)), ByteSize(4 << 20));
        Sample {
            cluster: "apogee".to_owned(),
            password: Secret::default(),
            grpc: Grpc { port: 8081, max_connection_age: age, max_message: size, tls: None },
            labels: BTreeMap::new(),
            peers: Vec::new(),
        }
    }
}

/// Loads from the text of a file, variables, and flags in TOML.
fn load_from(file: &str, env: &[(&str, &str)], flags: &str) -> Result<Loaded<Sample>, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sample.toml");
    std::fs::write(&path, file).expect("the folder takes files");
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(&path), env, toml::from_str(flags).expect("the test writes TOML"), &["APOGEE_PROFILE"])
}

/// The error with its causes.
fn refused(file: &str, env: &[(&str, &str)], flags: &str) -> String {
    crate::Stop::from(load_from(file, env, flags).expect_err("the test expects an error")).to_string()
}

#[test]
fn a_stronger_layer_wins_and_origins_are_told() {
    let loaded = load_from(
        "cluster = 'f'\n[grpc]\nport = 1\nmax_connection_age = '1m'\nmax_message = '1MiB'",
        &[("APOGEE_GRPC__MAX_CONNECTION_AGE", "2m"), ("APOGEE_GRPC__MAX_MESSAGE", "2MiB"), ("PATH", "/bin")],
        "grpc.max_message = '3MiB'",
    )
    .unwrap();
    assert_eq!(
        loaded.print().lines().collect::<Vec<_>>(),
        [
            r#"cluster = "f" # file"#,
            r#"grpc.max_connection_age = "2m" # env"#,
            r#"grpc.max_message = "3MiB" # flag"#,
            r#"grpc.port = 1 # file"#,
            r#"# grpc.tls is not set # default"#,
            r#"labels = {} # default"#,
            r#"password = "" # default"#,
            r#"peers = [] # default"#,
        ]
    );
    assert_eq!(loaded.config.grpc.max_connection_age.0, Duration::from_secs(120));
    assert_eq!(loaded.origin("grpc.port"), Origin::File);
}

#[test]
fn without_layers_all_is_default() {
    let loaded: Loaded<Sample> = load(None, std::iter::empty(), toml::Table::new(), &[]).unwrap();
    assert_eq!(loaded.config.grpc.port, 8081);
    assert!(loaded.print().lines().all(|line| line.ends_with("# default")));
}

#[test]
fn variables_have_the_type_of_their_key() {
    let env = [
        ("APOGEE_CLUSTER", "123"),
        ("APOGEE_GRPC__PORT", "9"),
        ("APOGEE_GRPC__TLS", "true"),
        ("APOGEE_GRPC__MAX_MESSAGE", "1024"),
        ("APOGEE_LABELS__ZONE", "7"),
        ("APOGEE_PEERS", r#"["a", "b"]"#),
        ("APOGEE_PROFILE", "belongs to the command line"),
    ];
    let config = load_from("", &env, "").unwrap().config;
    assert_eq!((config.cluster.as_str(), config.grpc.port, config.grpc.tls), ("123", 9, Some(true)));
    assert_eq!((config.grpc.max_message, config.labels["zone"]), (ByteSize(1024), 7));
    assert_eq!(config.peers, ["a", "b"]);
}

#[test]
fn an_unknown_key_names_its_nearest() {
    let told = "unknown key grpc.max_conection_age (file), the nearest valid key is grpc.max_connection_age";
    assert_eq!(refused("[grpc]\nmax_conection_age = '1s'", &[], ""), told);
    let told = "unknown key grpc.prot (env), the nearest valid key is grpc.port";
    assert_eq!(refused("", &[("APOGEE_GRPC__PROT", "1")], ""), told);
    let told = "unknown key clusters (flag), the nearest valid key is cluster";
    assert_eq!(refused("", &[], "clusters = 'x'"), told);
}

#[test]
fn a_wrong_value_names_its_key_and_layer() {
    let told = refused("grpc.port = 1", &[("APOGEE_GRPC__MAX_CONNECTION_AGE", "soon")], "");
    assert_eq!(told, "key grpc.max_connection_age (env) has no valid value: \"soon\" is not a duration such as 30s");
    assert!(refused("grpc.port = 70000", &[], "").starts_with("key grpc.port (file) has no valid value: "));
    assert!(refused("grpc = 1", &[], "").starts_with("key grpc (file) has no valid value: "));
}

#[test]
fn a_secret_comes_from_a_file_and_is_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let loaded = load_from("", &[("APOGEE_PASSWORD_FILE", path.to_str().unwrap())], "").unwrap();
    assert_eq!(loaded.config.password.reveal(), "hunter2");
    assert!(loaded.print().contains(r#"password = "***" # env"#));
    assert!(!format!("{:?}{}", loaded, loaded.print()).contains("hunter2"));
}

#[test]
fn broken_and_missing_files_are_usage_errors() {
    assert!(refused("cluster = ", &[], "").contains("is not TOML"));
    let missing = load::<Sample>(Some(Path::new("/nonexistent/a.toml")), std::iter::empty(), toml::Table::new(), &[]);
    assert_eq!(missing.map(|_| ()).map_err(|error| error.exit()), Err(Exit::Usage));
}
