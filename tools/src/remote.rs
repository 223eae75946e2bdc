//! A running server's admin port, as the tools talk to it: HTTP, blocking, one request after another.

use serde_json::Value;
use std::io::Read;
use std::time::Duration;

/// Where the admin port is unless told otherwise.
pub const DEFAULT_SERVER: &str = "127.0.0.1:8080";
/// What backups and pieces of them are sent as.
const BACKUP_TYPE: &str = "application/x-aerolith-backup";
/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long small answers may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("server {server}: {source}; is aerolithd running, and is this its admin port?")]
    Connect { server: String, source: ureq::Error },
    #[error("server {server}: {path} was refused with status {status}: {why}")]
    Refused { server: String, path: String, status: u16, why: String },
    #[error("server {server}: {path} did not answer with JSON: {source}; is this aerolithd's admin port?")]
    Answer { server: String, path: String, source: ureq::Error },
}

/// The admin port of one server.
pub struct Remote {
    server: String,
    agent: ureq::Agent,
}

impl Remote {
    /// The server at `HOST:PORT`.
    pub fn new(server: &str) -> Remote {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .http_status_as_error(false)
            .build();
        Remote { server: server.to_owned(), agent: config.into() }
    }

    /// As it was given.
    pub fn server(&self) -> &str {
        &self.server
    }

    fn answer(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<ureq::Body, RemoteError> {
        let server = self.server.clone();
        let (head, mut body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(source) => return Err(RemoteError::Connect { server, source }),
        };
        if head.status.is_success() {
            return Ok(body);
        }
        let why = body.read_to_string().unwrap_or_default().trim().to_owned();
        let path = path.split('?').next().unwrap_or(path).to_owned();
        Err(RemoteError::Refused { server, path, status: head.status.as_u16(), why })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server)
    }

    fn json(&self, path: &str, mut body: ureq::Body) -> Result<Value, RemoteError> {
        body.read_json().map_err(|source| RemoteError::Answer {
            server: self.server.clone(),
            path: path.split('?').next().unwrap_or(path).to_owned(),
            source,
        })
    }

    /// A small JSON document.
    pub fn get(&self, path: &str) -> Result<Value, RemoteError> {
        let request = self.agent.get(self.url(path)).config().timeout_global(Some(ANSWER_TIMEOUT)).build();
        let body = self.answer(path, request.call())?;
        self.json(path, body)
    }

    /// A stream of any length.
    pub fn stream(&self, path: &str) -> Result<impl Read + use<>, RemoteError> {
        let body = self.answer(path, self.agent.get(self.url(path)).call())?;
        Ok(body.into_reader())
    }

    /// Sends a piece of a backup, and gives the server's answer. Writing a piece twice is writing it once, so a connection
    /// that the server has closed meanwhile is made anew.
    pub fn post(&self, path: &str, piece: &[u8]) -> Result<Value, RemoteError> {
        let send = || self.agent.post(self.url(path)).header("Content-Type", BACKUP_TYPE).send(piece);
        let body = self.answer(path, send().or_else(|_| send()))?;
        self.json(path, body)
    }
}

/// A value for a query: everything but letters, digits and a few signs as `%XX`.
pub fn quoted(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_query_holds_any_text() {
        assert_eq!(quoted("a-1_.Z"), "a-1_.Z");
        assert_eq!(quoted("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }
}
