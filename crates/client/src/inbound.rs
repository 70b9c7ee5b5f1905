//! The development channel.

use api::inbound::{InboundBody, InboundView};

use crate::{Client, ClientError};

impl Client {
    /// Speaks as somebody on the development channel.
    pub async fn send_inbound(&self, message: &InboundBody) -> Result<InboundView, ClientError> {
        self.post(&["dev", "inbound"], message).await
    }
}
