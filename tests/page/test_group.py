"""The group view: which layers share the units of a site, as data, as a picture and in words."""

import re
import time

import pytest
from diffusers import UNet2DModel

import pruning
from pruning.network.inputs import Example
from pruning.network.subject import subject
from pruning.units.catalog import catalog
from ui.plots import group
from ui.plots.group import Cell, Group, Slice
from ui.views import coupling

SMALL = Group("stream", 4, 1, 1234, 5_600_000, (
    Cell("conv_in", slices=(Slice("writes", 0, 4, 4),), tensors=("weight", "bias")),
    Cell("down_blocks.0.resnets.0.norm1", True, (Slice("normalises", 0, 4, 4),), ("weight", "bias")),
    Cell("down_blocks.0.resnets.0.conv1", slices=(Slice("reads", 0, 4, 4),), tensors=("weight",), other="hidden"),
    Cell("mid_block.attentions.0.transformer_blocks.0.attn1.to_q", other="inner"),
    Cell("up_blocks.3.resnets.0.conv1", slices=(Slice("reads", 4, 8, 12), Slice("reads", 8, 12, 12)),
         tensors=("weight",)),
    Cell("conv_norm_out", True)))


def lit(shown):
    """The layers that a picture lights, by what their cells are called."""
    return [re.sub(": .*", "", title) for title in re.findall(r'class="cell lit[^"]*" title="([^"]+)"', shown)]


def test_the_summary_counts_tensors_layers_and_what_they_do():
    assert group.summary(SMALL) == ("6 tensors in 4 layers lose the same one of 4 channels: written by 1, read by 2, "
                                    "normalised by 1.")
    assert group.cost(SMALL) == "One channel is 1.23 k parameters and 5.60 M MACs of one pass, with all else whole."


def test_a_group_that_stays_whole_says_so():
    whole = Group("head", 8, 0, 100, None, SMALL.cells)
    assert group.summary(whole).startswith("6 tensors in 4 layers share the same 8 heads: ")
    assert group.summary(whole).endswith("; none goes.")
    assert group.cost(whole) == "One head is 100 parameters, with all else whole."
    shown = group.group(whole)
    assert "nothing of it goes" in shown
    assert "hatched" not in shown


def test_bands_stand_where_the_slices_are():
    shown = group.group(SMALL)
    assert 'class="upright" style="--at:33.3%;--size:33.3%"' in shown
    assert 'class="upright" style="--at:66.7%;--size:33.3%"' in shown
    assert shown.count('class="across" style="--at:0.0%;--size:100.0%"') == 2  # conv_in and the norm
    assert 'class="map" role="group" style="--gone:25.00%"' in shown


def test_the_picture_has_every_layer_and_lights_the_coupled_ones():
    shown = group.group(SMALL)
    assert lit(shown) == ["conv_in", "down 0 · resnet 0 · norm1", "down 0 · resnet 0 · conv1",
                          "up 3 · resnet 0 · conv1"]
    assert '<span class="cell flat" title="conv_norm_out">' in shown
    assert re.findall(r'class="where">([^<]+)<', shown) == ["Input", "Down 0", "Middle", "Up 3", "Output"]
    assert re.findall(r'data-group="([^"]+)"', shown) == ["hidden", "inner"]
    assert shown.count('tabindex="0"') == 2  # the first lit cell, and the table, which scrolls
    assert shown.count('aria-disabled="true"') == 3  # lit, and in no other group


def test_the_table_says_in_words_what_the_picture_shows():
    rows = re.findall(r"<tr>(<th scope=\"row\".*?)</tr>", group.table(SMALL))
    said = [re.sub(r"(<[^>]+>)+", "|", row).strip("|") for row in rows]
    assert said == ["conv_in|writes| (weight, bias)|outputs 0–3 of 4|1",
                    "down 0 · resnet 0 · norm1|normalises| (weight, bias)|channels 0–3 of 4|1",
                    "down 0 · resnet 0 · conv1|reads| (weight)|inputs 0–3 of 4|1",
                    "up 3 · resnet 0 · conv1|reads| (weight)|inputs 4–7 and 8–11 of 12|2"]


@pytest.mark.parametrize(("name", "where"), [
    ("conv_in", ("", "conv_in")), ("time_embedding.linear_1", ("", "time_embedding")),
    ("down_blocks.0.resnets.1.conv1", ("Down block 0", "resnets.1")),
    ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q", ("Middle block", "attentions.0")),
    ("text_model.encoder.layers.3.mlp.fc1", ("Layer 3", "mlp")),
    ("transformer_blocks.12.scale_shift_table", ("Block 12", "scale_shift_table")),
    ("transformer_blocks.12", ("Block 12", ""))])
def test_a_layer_has_its_place(name, where):
    assert group.place(name) == where


def test_names_are_only_text():
    odd = Cell("<b>", slices=(Slice("reads", 0, 2, 2),), tensors=("<i>",), other='"x')
    shown = group.group(Group("neuron", 2, 1, 1, None, (odd,)))
    assert "<b>" not in shown
    assert "(<i>)" not in shown
    assert 'data-group="&quot;x"' in shown


@pytest.fixture(scope="module")
def streams():
    net = subject(pruning.load("emoji-sd")).net
    return catalog(net, "channel", Example()), coupling.tables(net)


def test_every_member_of_a_site_is_lit_and_nothing_else(streams):
    sites, lookups = streams
    for site in sites:
        made = coupling.coupled(sites, site, 0, lookups)
        tensors = {f"{cell.name}.{tensor}" for cell in made.lit for tensor in cell.tensors}
        assert tensors == {member.tensor for member in site.members}
        assert [cell.name for cell in made.cells if cell.tensors] == [cell.name for cell in made.lit]
        assert len(lit(group.group(made))) == len(made.lit)
        assert {cell.name for cell in made.cells} == {name.rpartition(".")[0] for name in sites.costs.shapes}


def test_slices_and_costs_are_those_of_the_catalog(streams):
    sites, lookups = streams
    site = sites.sites["down_blocks.0.resnets.0.conv2#stream"]
    made = coupling.coupled(sites, site, 16, lookups)
    found = {cell.name: cell for cell in made.lit}
    assert found["conv_in"].slices == (Slice("writes", 0, 64, 64),)
    assert found["up_blocks.3.resnets.0.conv1"].slices == (Slice("reads", 128, 192, 192),)
    assert found["up_blocks.3.resnets.0.norm1"].slices == (Slice("normalises", 128, 192, 192),)
    assert (made.params, made.macs) == (sites.worth(site, "params"), sites.worth(site, "macs"))
    assert made.going(found["conv_in"].slices) == 16
    assert [cell.name for cell in made.cells][:4] == ["time_embedding.linear_1", "time_embedding.linear_2", "conv_in",
                                                      "down_blocks.0.resnets.0.norm1"]


def test_a_cell_leads_to_another_group_of_its_layer_and_back(streams):
    sites, lookups = streams
    stream, hidden = "down_blocks.0.resnets.0.conv2#stream", "down_blocks.0.resnets.0#channels"
    for one, other in ((stream, hidden), (hidden, stream)):
        made = coupling.coupled(sites, sites.sites[one], 0, lookups)
        assert {cell.name: cell.other for cell in made.cells}["down_blocks.0.resnets.0.conv1"] == other
    assert {cell.name: cell.other for cell in made.cells}["conv_in"] == stream


def test_a_table_of_classes_writes_its_columns():
    net = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1,
                      down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=4,
                      num_class_embeds=3, add_attention=False)
    sites = catalog(net, "channel", Example())
    site = next(site for site in sites if any(m.tensor == "class_embedding.weight" for m in site.members))
    made = coupling.coupled(sites, site, 0, coupling.tables(net))
    assert {cell.name: cell for cell in made.lit}["class_embedding"].slices == (Slice("writes", 0, 32, 32),)


def test_halves_of_a_gated_neuron_are_two_slices_of_one_layer():
    net = subject(pruning.load("emoji-sd")).net
    sites = catalog(net, "neuron", Example())
    site = sites.sites["down_blocks.0.attentions.0.transformer_blocks.0.ff#neurons"]
    first, last = coupling.coupled(sites, site, 10).lit
    assert first.slices == (Slice("writes", 0, 256, 512), Slice("writes", 256, 512, 512))
    assert (first.tensors, last.slices) == (("weight", "bias"), (Slice("reads", 0, 256, 256),))


def test_the_view_of_a_model_of_sd_size_is_made_at_once():
    looked_at = subject(pruning.load("sd-1.5", weights="meta"))
    sites = catalog(looked_at.net, "channel", looked_at.example)
    site = sites.sites["down_blocks.0.resnets.0.conv2#stream"]
    took = []
    for _ in range(5):
        began = time.perf_counter()
        shown = group.group(coupling.coupled(sites, site, 64))
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05  # about 4 ms
    assert "35 tensors in 23 layers lose the same 64 of 320 channels" in shown
    assert len(shown) < 200_000
