-- An address is a place where a customer wants to receive parcels, and a customer can have more than one.
CREATE TABLE addresses (
    id text PRIMARY KEY,
    customer_id text NOT NULL REFERENCES customers (id),
    street text NOT NULL,
    postcode text NOT NULL,
    city text NOT NULL,
    country text NOT NULL
);
