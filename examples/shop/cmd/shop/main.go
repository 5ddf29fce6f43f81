// Shop answers GET /products with the shop's products as JSON.
package main

import (
	"encoding/json"
	"log"
	"net/http"

	"example.com/shop/internal/models"
)

func main() {
	products := []models.Product{{ID: "p1", Name: "Teapot", PriceCents: 2450, Stock: 3}}
	http.HandleFunc("/products", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(products); err != nil {
			log.Print(err)
		}
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
