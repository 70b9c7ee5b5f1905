//! Events: pages of them, and a stream that goes on for ever.

use std::marker::PhantomData;

use api::{Page, events::EventView};
use serde::de::DeserializeOwned;

use crate::{Client, ClientError, http::query};

/// The longest line of a stream; a longer one is not ours.
const MAX_LINE: usize = 4 << 20;

impl Client {
    /// A page, oldest first, of everything or of one subject (`run:7Q4K2MA`). `after` of `""` begins at the beginning.
    pub async fn list_events(
        &self,
        subject: Option<&str>,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<EventView>, ClientError> {
        let after = after.map(str::to_owned);
        let query = query([
            ("subject", subject.map(str::to_owned)),
            ("after", after),
            ("limit", limit.map(|limit| limit.to_string())),
        ]);
        self.get(&["events"], &query).await
    }

    /// Follows the events behind `after`, as they happen.
    pub async fn follow_events(
        &self,
        subject: Option<&str>,
        after: Option<&str>,
    ) -> Result<EventStream<EventView>, ClientError> {
        let query = query([("subject", subject.map(str::to_owned)), ("after", after.map(str::to_owned))]);
        EventStream::open(self, &["events", "stream"], &query).await
    }
}

/// Server-sent events, one by one.
#[derive(Debug)]
pub struct EventStream<T> {
    client: Client,
    answer: reqwest::Response,
    buffer: Vec<u8>,
    data: String,
    /// Whether the event that is being read says that there will be no other.
    is_end: bool,
    ended: bool,
    what: String,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> EventStream<T> {
    pub(crate) async fn open(client: &Client, path: &[&str], query: &[(&str, String)]) -> Result<Self, ClientError> {
        let answer = client.open(path, query, None).await?;
        Ok(Self {
            client: client.clone(),
            answer,
            buffer: Vec::new(),
            data: String::new(),
            is_end: false,
            ended: false,
            what: path.join("/"),
            kind: PhantomData,
        })
    }

    /// The next event; `None` when the server ended the stream, as it does when it stops.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            while let Some(line) = take_line(&mut self.buffer) {
                if let Some(event) = self.read_line(&line)? {
                    return Ok(Some(event));
                }
            }
            if self.ended || self.buffer.len() > MAX_LINE {
                return Ok(None);
            }
            match self.answer.chunk().await.map_err(|error| self.client.failed(error))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    /// An empty line ends an event; heartbeats are comments, and other fields say nothing that the data does not.
    fn read_line(&mut self, line: &str) -> Result<Option<T>, ClientError> {
        if line.strip_prefix("event:").is_some_and(|name| name.trim() == "end") {
            self.is_end = true;
        }
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            return Ok(None);
        }
        if !line.is_empty() || self.data.is_empty() {
            return Ok(None);
        }
        let data = std::mem::take(&mut self.data);
        if self.is_end {
            // It says how it all ended, which whoever asked finds out as they do otherwise.
            self.ended = true;
            return Ok(None);
        }
        let strange = |_| ClientError::Strange { what: self.what.clone(), status: 200 };
        serde_json::from_str(&data).map(Some).map_err(strange)
    }
}

fn take_line(buffer: &mut Vec<u8>) -> Option<String> {
    let end = buffer.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = buffer.drain(..=end).collect();
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole() {
        let mut buffer = b"data: 1\r\n\npart".to_vec();

        assert_eq!(take_line(&mut buffer).as_deref(), Some("data: 1"));
        assert_eq!(take_line(&mut buffer).as_deref(), Some(""));
        assert_eq!(take_line(&mut buffer), None);
        assert_eq!(buffer, b"part");
    }
}
