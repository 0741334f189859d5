//! The access log: appended by binary COPY to partitions by day, which are made when their first row comes and
//! dropped whole.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use artifactapi_model::{
    Timestamp,
    ports::{MetadataError, metadata::AccessRecord},
};
use deadpool_postgres::{
    Object,
    tokio_postgres::{
        binary_copy::BinaryCopyInWriter,
        error::SqlState,
        types::{ToSql, Type},
    },
};
use tokio::time::Instant;

use super::{
    super::operation::Operation,
    failed,
    pool::{CALL, Pool, Repeat, within},
    trouble::Trouble,
};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// Records of one COPY, so that it ends within the time of a statement.
const PART: usize = 5_000;
/// Rows dropped in one statement, for the same reason.
const EXPIRED: i64 = 5_000;
/// Longest time to count the rows of one day.
const COUNTING: Duration = Duration::from_secs(120);

const ADD_DAY: &str = "SELECT add_access_log_day($1, $2, $3)";
const COPY: &str = "COPY access_log (at, repository, method, path, status, outcome, bytes, duration_us, client) \
     FROM STDIN BINARY";
const TYPES: [Type; 9] = [
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
];
const DAYS: &str = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
     WHERE i.inhparent = 'access_log'::regclass ORDER BY 1";

/// Days whose partition is known to be there.
#[derive(Default)]
pub(super) struct Days(Mutex<BTreeSet<i64>>);

impl Days {
    fn known(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(day: i64) -> String {
    format!("access_log_day_{}", day.to_string().replace('-', "minus_"))
}

fn day_of(name: &str) -> Option<i64> {
    name.strip_prefix("access_log_day_")?.replace("minus_", "-").parse().ok()
}

pub(super) async fn append(pool: &Pool, days: &Days, records: &[AccessRecord]) -> Result<(), MetadataError> {
    let operation = Operation::LogAccess;
    for part in records.chunks(PART) {
        add_days(pool, days, part).await?;
        let copied = match copy(pool, part).await {
            // A partition was dropped since. Nothing has been written.
            Err(trouble) if trouble.is(&SqlState::CHECK_VIOLATION) => {
                days.known().clear();
                add_days(pool, days, part).await?;
                copy(pool, part).await
            }
            copied => copied,
        };
        copied.map_err(|trouble| trouble.into_error(operation))?;
    }
    Ok(())
}

async fn add_days(pool: &Pool, days: &Days, records: &[AccessRecord]) -> Result<(), MetadataError> {
    let mut missing: BTreeSet<i64> = records.iter().map(|record| record.at.0.div_euclid(DAY)).collect();
    missing.retain(|day| !days.known().contains(day));
    for day in missing {
        let from = day.saturating_mul(DAY);
        let values = (from, from.saturating_add(DAY));
        pool.ask(Operation::LogAccess, Repeat::Safe, ADD_DAY, &[&day, &values.0, &values.1]).await?;
        days.known().insert(day);
    }
    Ok(())
}

async fn copy(pool: &Pool, records: &[AccessRecord]) -> Result<(), Trouble> {
    let deadline = Instant::now() + CALL;
    let client = pool.acquire(deadline).await?;
    pool.statements().count(Operation::LogAccess);
    let outcome = within(deadline, write(&client, records)).await;
    pool.settle(client, outcome)
}

async fn write(client: &Object, records: &[AccessRecord]) -> Result<(), Trouble> {
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(COPY).await?, &TYPES));
    for record in records {
        // PostgreSQL's texts hold no NUL.
        let text = |text: &str| text.replace('\0', "\u{fffd}");
        let values: [&(dyn ToSql + Sync); 9] = [
            &record.at.0,
            &text(&record.repository),
            &text(&record.method),
            &text(&record.path),
            &i64::from(record.status),
            &text(&record.outcome),
            &record.bytes.cast_signed(),
            &record.duration_us.cast_signed(),
            &text(&record.client),
        ];
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}

/// Drops the partitions of all days before that of `before` and the rest of that day; how many rows went.
pub(super) async fn expire(pool: &Pool, days: &Days, before: Timestamp) -> Result<u64, MetadataError> {
    let operation = Operation::ExpireAccessLog;
    let last = before.0.div_euclid(DAY);
    let mut expired = 0;
    for row in pool.ask(operation, Repeat::Safe, DAYS, &[]).await? {
        // What an administrator has attached is theirs.
        let Some(day) = day_of(row.get(0)).filter(|day| *day <= last) else { continue };
        expired += if day < last {
            days.known().remove(&day);
            drop_day(pool, day).await.map_err(|trouble| trouble.into_error(operation))?
        } else {
            delete_until(pool, day, before).await?
        };
    }
    Ok(expired)
}

async fn drop_day(pool: &Pool, day: i64) -> Result<u64, Trouble> {
    let deadline = Instant::now() + COUNTING + CALL;
    let mut client = pool.acquire(deadline).await?;
    let outcome = within(deadline, async {
        let partition = name(day);
        let transaction = client.transaction().await?;
        let patience = format!("SET LOCAL statement_timeout = {}", COUNTING.as_millis());
        transaction.batch_execute(&patience).await?;
        let count = transaction.query_one(&format!("SELECT COUNT(*) FROM {partition}"), &[]).await?;
        transaction.commit().await?;
        // Not in the same transaction: dropping locks the whole table first, and nobody who appends shall
        // wait for the count.
        client.batch_execute(&format!("DROP TABLE {partition}")).await?;
        pool.statements().count(Operation::ExpireAccessLog);
        Ok(count.get::<_, i64>(0).cast_unsigned())
    });
    let outcome = outcome.await;
    match pool.settle(client, outcome) {
        // Another replica has just dropped it.
        Err(trouble) if trouble.is(&SqlState::UNDEFINED_TABLE) => Ok(0),
        outcome => outcome,
    }
}

async fn delete_until(pool: &Pool, day: i64, before: Timestamp) -> Result<u64, MetadataError> {
    let operation = Operation::ExpireAccessLog;
    let partition = name(day);
    let statement = format!(
        "WITH gone AS (DELETE FROM {partition} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {partition} \
         WHERE at < $1 LIMIT $2)) RETURNING 1) SELECT COUNT(*) FROM gone"
    );
    let mut expired = 0;
    loop {
        let rows = pool.ask(operation, Repeat::Never, &statement, &[&before.0, &EXPIRED]).await?;
        let count: i64 = rows.first().ok_or_else(|| failed(operation, "there is no answer"))?.get(0);
        expired += count.cast_unsigned();
        if count < EXPIRED {
            return Ok(expired);
        }
    }
}
