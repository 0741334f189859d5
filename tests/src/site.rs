//! One installation as a cluster has it: a database, a bucket and a Redis of its own, and what works on them, proxies
//! and operators, as processes. Nothing stands between them and the services.

mod server;

use artifactapi_services::{Minio, Missing, Postgres, Redis};

pub use server::Server;

use crate::process::{binary, command_with, free_ports, operator_binary};

/// Keys of these installations; nothing real is sealed with them.
const ENCRYPTION_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const PEER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// A database with the schema and nothing else, which the others are copies of.
const TEMPLATE: &str = "template_of_sites";

/// The services that sites share.
pub struct Grounds {
    /// Metadata; each site has a database.
    pub postgres: Postgres,
    /// Bytes; each site has a bucket.
    pub minio: Minio,
}

impl Grounds {
    /// Starts them and lays out the schema.
    ///
    /// # Errors
    /// When one is not installed.
    ///
    /// # Panics
    /// When the schema cannot be made.
    pub async fn start() -> Result<Self, Missing> {
        let (postgres, minio) = (Postgres::start()?, Minio::start_in_memory()?);
        postgres.database(TEMPLATE);
        let grounds = Grounds { postgres, minio };
        let environment = [at_postgres(&grounds.postgres, TEMPLATE), grounds.at_minio(TEMPLATE)].concat();
        let told = command_with(["migrate"], &environment).await;
        assert_eq!(told.code, Some(0), "migrate: {}", told.text);
        Ok(grounds)
    }

    fn at_minio(&self, bucket: &str) -> Vec<(String, String)> {
        [
            ("MINIO_ENDPOINT", self.minio.endpoint()),
            ("MINIO_ACCESS_KEY", Minio::ACCESS_KEY.to_owned()),
            ("MINIO_SECRET_KEY", Minio::SECRET_KEY.to_owned()),
            ("MINIO_BUCKET", bucket.to_owned()),
            ("MINIO_SECURE", "false".to_owned()),
            ("MINIO_REGION", "us-east-1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn at_postgres(postgres: &Postgres, database: &str) -> Vec<(String, String)> {
    [
        ("DBHOST", "127.0.0.1".to_owned()),
        ("DBPORT", postgres.process.port().to_string()),
        ("DBUSER", Postgres::USER.to_owned()),
        ("DBPASS", Postgres::PASSWORD.to_owned()),
        ("DBNAME", database.to_owned()),
        ("ARTIFACTAPI_ENCRYPTION_KEY", ENCRYPTION_KEY.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// One installation.
pub struct Site<'a> {
    grounds: &'a Grounds,
    redis: Redis,
    name: String,
    /// Of proxies: for clients, for metrics, for twins.
    ports: [u16; 3],
}

impl<'a> Site<'a> {
    /// An empty one; `name` must be its own and fit a database and a bucket: letters and digits.
    ///
    /// # Errors
    /// When Redis is not installed.
    pub fn new(grounds: &'a Grounds, name: &str) -> Result<Self, Missing> {
        grounds.postgres.sql(Postgres::DATABASE, &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}"));
        grounds.minio.bucket(name);
        Ok(Site { grounds, redis: Redis::start()?, name: name.to_owned(), ports: free_ports() })
    }

    /// Runs SQL in its database; what came, a line a row and `|` between columns.
    pub fn sql(&self, sql: &str) -> String {
        self.grounds.postgres.sql(&self.name, sql)
    }

    fn stores(&self) -> Vec<(String, String)> {
        [at_postgres(&self.grounds.postgres, &self.name), self.grounds.at_minio(&self.name)].concat()
    }

    /// Root URL of its proxy, without a slash at its end, whether that runs or not.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// URL of its proxy's metrics page.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.ports[1])
    }

    /// Base URL of a Remote, with a slash at its end.
    pub fn remote(&self, name: &str) -> String {
        format!("{}/api/v1/remote/{name}/", self.url())
    }

    /// Starts its proxy and waits until it is ready.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn proxy(&self) -> Server {
        let mut proxy =
            Server::new("proxy", binary().expect("a built proxy"), format!("{}/readyz", self.url()));
        let [port, metrics, twins] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let cache = proxy.home().join("cache").to_string_lossy().into_owned();
        proxy.arguments(&["serve"]).set_all(self.stores()).set_all(
            [
                ("REDIS_URL", self.redis.url()),
                ("ARTIFACTAPI_PEER_KEY", PEER_KEY.to_owned()),
                ("ARTIFACTAPI_CACHE_BYTES", "1073741824".to_owned()),
                ("ARTIFACTAPI_CACHE_DIR", cache),
                ("ARTIFACTAPI_PUBLIC_URL", self.url()),
                ("LISTEN_ADDR", port),
                ("ARTIFACTAPI_METRICS_ADDR", metrics),
                ("ARTIFACTAPI_PEER_ADDR", twins),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        proxy.start().await;
        proxy
    }

    /// An operator that is not started yet: it writes to this database. Give it an API server and what it watches.
    ///
    /// # Panics
    /// When none is built.
    pub fn operator(&self) -> Server {
        let [port] = free_ports();
        let address = format!("127.0.0.1:{port}");
        let ready = format!("http://{address}/readyz");
        let mut operator = Server::new("operator", operator_binary().expect("a built operator"), ready);
        operator.set_all(at_postgres(&self.grounds.postgres, &self.name));
        operator.set("ARTIFACTAPI_PUBLIC_URL", self.url()).set("ARTIFACTAPI_METRICS_ADDR", address);
        operator
    }

    /// Runs a subcommand of the proxy's binary on its stores.
    pub async fn command(&self, arguments: &[&str]) -> crate::proxy::Told {
        command_with(arguments, &self.stores()).await
    }
}
