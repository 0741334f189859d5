//! Notifications, on a connection of their own that comes back by itself.

use std::{future::poll_fn, pin::pin, time::Duration};

use artifactapi_model::{
    Notice,
    ports::{Heard, Messages, MetadataError},
};
use bytes::Bytes;
use deadpool_postgres::tokio_postgres::{AsyncMessage, Client, Socket, tls::TlsStream};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    super::operation::Operation, PostgresMetadata, settings::PostgresSettings, tls, trouble::describe,
};

/// The channel everything is sent on.
pub(super) const CHANNEL: &str = "artifactapi";
const LISTEN: &str = "SET statement_timeout = 0; LISTEN artifactapi";
const NOTIFY: &str = "SELECT pg_notify('artifactapi', $1)";
/// Messages a slow listener may be behind.
const BEHIND: usize = 1_024;
/// Longest time to connect, and for the server to answer that it is there.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two such questions: a connection can die without a word.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Pause before connecting again: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

impl PostgresMetadata {
    /// What [`PostgresMetadata::notify`] and changes of the database say, from now on: notices in their JSON
    /// form, and [`Heard::Gap`] after every connection. The stream never ends; dropped, its connection closes.
    pub fn listen(&self) -> Messages {
        let (sender, receiver) = mpsc::channel(BEHIND);
        let settings = self.settings.clone();
        tokio::spawn(async move {
            let ear = Ear { sender };
            tokio::select! {
                () = ear.sender.closed() => {}
                () = listen(&settings, &ear) => {}
            }
        });
        Box::pin(futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|heard| (heard, receiver))
        }))
    }

    /// Tells all listeners of all replicas, this one's included.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn notify(&self, notice: &Notice) -> Result<(), MetadataError> {
        self.read(Operation::Notify, NOTIFY, &[&notice.encode()]).await.map(drop)
    }
}

/// The listener.
struct Ear {
    sender: mpsc::Sender<Heard>,
}

impl Ear {
    /// One place is kept for the gap that says that there was no room for more.
    fn hear(&self, payload: &str) {
        let message = match self.sender.capacity() {
            0 => return,
            1 => Heard::Gap,
            _ => Heard::Message(Bytes::copy_from_slice(payload.as_bytes())),
        };
        // Only this task sends, so there is room.
        let _ = self.sender.try_send(message);
    }
}

async fn listen(settings: &PostgresSettings, ear: &Ear) {
    let mut pause = PAUSES[0];
    loop {
        let mut has_listened = false;
        let cause = connection(settings, ear, &mut has_listened).await;
        if has_listened {
            pause = PAUSES[0];
            tracing::info!(cause, "the connection that listens to notifications was lost");
        } else {
            tracing::debug!(cause, "no connection that listens to notifications");
        }
        sleep(pause).await;
        pause = PAUSES[1].min(pause * 2);
    }
}

/// One connection until it ends: why it did.
async fn connection(settings: &PostgresSettings, ear: &Ear, has_listened: &mut bool) -> String {
    let tls = match tls::connector(&settings.tls) {
        Ok(tls) => tls,
        Err(reason) => return reason,
    };
    let config = settings.config().await;
    let (client, connection) = match timeout(PATIENCE, config.connect(tls)).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return describe(&error),
        Err(_) => return "no connection in time".into(),
    };
    tokio::select! {
        cause = receive(connection, ear) => cause,
        cause = attend(&client, ear, has_listened) => cause,
    }
}

/// Hands on what is sent until the connection ends.
async fn receive<T: TlsStream + Unpin>(
    mut connection: deadpool_postgres::tokio_postgres::Connection<Socket, T>,
    ear: &Ear,
) -> String {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) if notification.channel() == CHANNEL => {
                ear.hear(notification.payload());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return describe(&error),
            None => return "it was closed".into(),
        }
    }
}

/// Begins to listen, and looks from time to time whether the server is still there.
async fn attend(client: &Client, ear: &Ear, has_listened: &mut bool) -> String {
    let mut question = LISTEN;
    loop {
        let mut asking = pin!(client.batch_execute(question));
        match timeout(PATIENCE, &mut asking).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return describe(&error),
            Err(_) => return "the server does not answer".into(),
        }
        if !*has_listened {
            *has_listened = true;
            question = "SELECT 1";
            // Nobody knows what was said before. This waits when the listener is busy.
            if ear.sender.send(Heard::Gap).await.is_err() {
                return "nobody listens".into();
            }
        }
        sleep(KEEPALIVE).await;
    }
}
