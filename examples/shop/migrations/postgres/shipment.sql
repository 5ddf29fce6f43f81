-- A shipment is the parcel that brings an order to the customer, and it has a number with which it can be found.
CREATE TABLE shipments (
    id text PRIMARY KEY,
    order_id text NOT NULL REFERENCES orders (id),
    carrier text NOT NULL,
    tracking_number text NOT NULL,
    sent_at timestamptz NOT NULL,
    delivered_at timestamptz NOT NULL
);
