//! Hears what the command line has changed in the database file of a running standalone proxy.
//!
//! `artifactapi evict`, `refresh`, `unpin` and `token` open the database while the proxy runs; it keeps rows in memory, and
//! SQLite tells nobody of changes. They leave a notice in a table, in the transaction of the change, and the proxy
//! looks there once a second.

use std::{sync::Arc, time::Duration};

use artifactapi_stores::SqliteMetadata;
use tokio_util::sync::CancellationToken;

use crate::App;

/// How often.
const PERIOD: Duration = Duration::from_secs(1);

/// Follows the notices until `stop`.
pub async fn follow(app: Arc<App>, database: Arc<SqliteMetadata>, stop: CancellationToken) {
    let (mut place, mut failing) = (None, false);
    loop {
        match database.posted(place).await {
            Ok(posted) => {
                if posted.gap {
                    app.engine.heard_gap();
                    app.gate.doubt_all();
                }
                for notice in &posted.notices {
                    app.engine.hear(notice);
                    app.gate.hear(notice);
                }
                (place, failing) = (Some(posted.last), false);
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(error = %error, "changes by the command line cannot be heard");
                }
                failing = true;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_none() {
            return;
        }
    }
}
