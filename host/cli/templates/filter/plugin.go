// A filter: which messages does a consumer get?
package main

import "quernplugin/quern"

var plugin = quern.Filter{
	About: quern.About{
		Summary: "Large orders from one region",
		// `region` and `amount` of a message's properties.
		Reads: []string{"region", "amount:int"},
		Params: []quern.Param{
			{Name: "from", Default: "eu", Help: "the region"},
			{Name: "min", Type: quern.Integer, Default: "100", Help: "the least amount"},
		},
	},
	Matches: func(m *quern.Message, p *quern.Params) (bool, error) {
		region, isSet := m.Text("region")
		amount, isNumber := m.Integer("amount")
		return isSet && region == p.Text("from") && isNumber && amount >= p.Integer("min"), nil
	},
}

func init() { quern.Export(plugin) }

func main() {}
